//! Preflight on the bed: what it refuses, it refuses with its code and exit 3, and both clusters stay
//! as they were.
//!
//! Each refusal is staged on a set of its own. `preflight` and `run --yes` must both refuse; afterwards
//! the namespaces are compared, and the audit logs may show no write of the tool's.

use std::time::Duration;

use anyhow::{Result, ensure};
use bed::ec2::{NewVolume, VolumePatch};
use bed::node::PodKnobs;
use bed::workload::{Class, USUAL_CLASS, Workload, namespace, until};
use bed::{Bed, Cluster};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use sts_migrate::record::{Subject, stem};

use crate::support::{Operator, on_bed};

mod rights;
mod stage;

use stage::Stage;

/// Name of the set that shall move.
const SET: &str = "web";

/// How long the controllers may take for anything.
const PATIENT: Duration = Duration::from_secs(60);

/// Exit code of findings that block.
const FINDINGS: i32 = 3;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![on_bed("preflight::a_fine_set_passes_and_nothing_is_written", fine)];
    trials.extend(rights::trials());
    trials.extend(of_the_command());
    trials.extend(of_the_set());
    trials.extend(of_claims());
    trials.extend(of_volumes());
    trials.extend(of_the_destination());
    trials
}

/// Returns a trial in which a stage refuses with `code` after something was done to it.
fn refusal<Act>(name: &'static str, code: &'static str, act: Act) -> Trial
where
    Act: AsyncFnOnce(&mut Stage) -> Result<()> + Send + 'static,
{
    refusal_of(name, code, |workload| workload, act)
}

/// Like `refusal`, of another set.
fn refusal_of<Act>(
    name: &'static str,
    code: &'static str,
    workload: impl FnOnce(Workload) -> Workload + Send + 'static,
    act: Act,
) -> Trial
where
    Act: AsyncFnOnce(&mut Stage) -> Result<()> + Send + 'static,
{
    on_bed(&format!("preflight::{name}_is_refused"), async move |bed| {
        let mut stage = Stage::new(bed, name, workload).await?;
        act(&mut stage).await?;
        stage.refuses(code).await
    })
}

async fn fine(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "fine", |workload| workload.replicas(2).claim("log", "1Gi", USUAL_CLASS)).await?;
    stage.flag("--order", "one-by-one");
    let ended = stage.passes().await?;
    ensure!(!ended.stdout.contains("warning"), "{}", ended.stdout);
    Ok(())
}

fn of_the_command() -> Vec<Trial> {
    vec![
        refusal("the_same_cluster_twice", "PF-2", async |stage| {
            stage.destination = "a".to_owned();
            stage.flags.push("--force".to_owned());
            Ok(())
        }),
        on_bed("preflight::a_record_of_another_migration_is_refused", foreign_record),
        refusal("a_missing_namespace", "PF-6", async |stage| {
            stage.flag("--dst-namespace", "pf-not-there");
            Ok(())
        }),
        refusal("a_typing_error_in_the_name", "PF-7", async |stage| {
            stage.set = "wbe".to_owned();
            Ok(())
        }),
        refusal_of(
            "an_order_that_nobody_chose",
            "PF-34",
            |workload| workload.replicas(2),
            async |stage| {
                stage.run_code = 2;
                Ok(())
            },
        ),
    ]
}

async fn foreign_record(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "a_record_of_another_migration", |workload| workload).await?;
    let record = json!({
        "version": 1, "id": "another", "attempt": 1, "seq": 1, "direction": "Forward", "frozenAt": null,
        "paused": false, "cutover": "NotBegun", "deleting": false, "outcome": null, "lastFailure": null,
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": stem(Subject::Set, SET), "labels": { "app.kubernetes.io/managed-by": "sts-migrate" },
        },
        "data": { "record.yaml": serde_json::to_string(&record)? },
    });
    stage.put(Cluster::B, map).await?;
    stage.run_code = 4;
    stage.refuses("PF-4").await?;
    let operator = Operator::with(bed, &stage.tool.user, &stage.tool.access_key)?;
    let ended = stage.changes_nothing(&operator, "plan").await?.expect_code(4);
    let reason = "refused: there is an open migration of web (another), but its plan could not be read";
    ensure!(ended.stderr.starts_with(reason), "{}", ended.stderr);
    Ok(())
}

fn of_the_set() -> Vec<Trial> {
    vec![
        refusal("a_finalizer", "PF-7", async |stage| {
            stage.patch_set(json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await.map(|_| ())
        }),
        refusal("an_owner", "PF-8", async |stage| {
            let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owner" } });
            stage.put(Cluster::A, map).await?;
            let maps: Api<ConfigMap> = Api::namespaced(stage.a.clone(), &stage.namespace);
            let uid = maps.get("owner").await?.metadata.uid;
            let owner =
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true });
            stage.patch_set(json!({ "metadata": { "ownerReferences": [owner] } })).await.map(|_| ())
        }),
        refusal("a_readiness_gate", "PF-8", async |stage| {
            let gates = json!([{ "conditionType": "example.org/in-sync" }]);
            // The pods that run stay: only the template says so.
            stage
                .patch_set(json!({ "spec": {
                "updateStrategy": { "type": "OnDelete", "rollingUpdate": null },
                "template": { "spec": { "readinessGates": gates } },
            } }))
                .await
                .map(|_| ())
        }),
        refusal("argo_cd", "PF-9", async |stage| {
            let mark = json!({ "argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:shop/web" });
            stage.patch_set(json!({ "metadata": { "annotations": mark } })).await.map(|_| ())
        }),
        refusal("an_autoscaler_in_the_source", "PF-10", async |stage| autoscaler(stage, Cluster::A).await),
        refusal("an_autoscaler_in_the_destination", "PF-10", async |stage| autoscaler(stage, Cluster::B).await),
        refusal("a_rollout_half_way", "PF-11", async |stage| {
            let update = json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } });
            stage.patch_set(json!({ "spec": update })).await?;
            let annotations = json!({ "example.org/next": "1" });
            let patched = stage
                .patch_set(json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } }))
                .await?;
            let generation = patched.metadata.generation;
            until(stage.sets(), SET, PATIENT, "seen", |set| {
                set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.observed_generation == generation)
            })
            .await?;
            Ok(())
        }),
        refusal("a_pod_that_is_not_ready", "PF-12", async |stage| {
            let knobs = PodKnobs { never_ready: true, ..PodKnobs::default() };
            stage.bed.nodes().pod_knobs(Some(Cluster::A), &stage.namespace, "web-0", knobs).await?;
            until(stage.sets(), SET, PATIENT, "unready", |set| {
                set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.ready_replicas.unwrap_or(0) == 0)
            })
            .await?;
            Ok(())
        }),
    ]
}

async fn autoscaler(stage: &Stage, cluster: Cluster) -> Result<()> {
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" },
        "spec": {
            "minReplicas": 1, "maxReplicas": 3,
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET },
        },
    });
    stage.put(cluster, object).await
}

fn of_claims() -> Vec<Trial> {
    vec![
        refusal("a_claim_that_is_being_deleted", "PF-13", async |stage| {
            stage.claims().delete("data-web-0", &DeleteParams::default()).await?;
            Ok(())
        }),
        on_bed("preflight::a_set_without_claims_is_refused", async |bed| {
            let mut stage = Stage::new(bed, "a_set_without_claims", |workload| workload).await?;
            let other = Workload::new(&stage.namespace, "stateless");
            other.apply(&stage.a).await?;
            other.wait_ready(&stage.a).await?;
            stage.set = "stateless".to_owned();
            stage.refuses("PF-15").await
        }),
        refusal("another_pod_on_the_claim", "PF-18", async |stage| {
            stage.put(Cluster::A, bystander("Pod", "v1", pod_spec("data-web-0"))).await
        }),
        refusal("a_cron_job_on_the_claim", "PF-18", async |stage| {
            let mut spec = pod_spec("data-web-0");
            spec["restartPolicy"] = json!("Never");
            let job = json!({ "spec": { "template": { "spec": spec } } });
            let spec = json!({ "schedule": "0 0 1 1 *", "jobTemplate": job });
            stage.put(Cluster::A, bystander("CronJob", "batch/v1", spec)).await
        }),
        refusal("a_deployment_at_rest_on_the_claim", "PF-18", async |stage| {
            let labels = json!({ "app": "bystander" });
            let template = json!({ "metadata": { "labels": labels }, "spec": pod_spec("data-web-0") });
            let spec = json!({ "replicas": 0, "selector": { "matchLabels": labels }, "template": template });
            stage.put(Cluster::A, bystander("Deployment", "apps/v1", spec)).await?;
            // Its controller writes to it: that is no change of the tool's.
            let deployments: Api<Deployment> = Api::namespaced(stage.a.clone(), &stage.namespace);
            until(deployments, "bystander", PATIENT, "seen by its controller", |found| {
                found.is_some_and(|found| {
                    let seen = found.status.as_ref().and_then(|status| status.observed_generation);
                    seen.is_some() && seen == found.metadata.generation
                })
            })
            .await
            .map(|_| ())
        }),
        refusal("a_resize_under_way", "PF-21", async |stage| {
            let patch = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
            stage.claims().patch("data-web-0", &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(())
        }),
        refusal_of(
            "a_claim_of_a_scale_down",
            "PF-36",
            |workload| workload.replicas(2),
            async |stage| {
                stage.patch_set(json!({ "spec": { "replicas": 1 } })).await?;
                until(stage.sets(), SET, PATIENT, "scaled down", |set| {
                    set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.replicas == 1)
                })
                .await?;
                Ok(())
            },
        ),
    ]
}

fn pod_spec(claim: &str) -> Value {
    json!({
        "containers": [{ "name": "main", "image": "registry.example/web:1" }],
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }],
        // Nothing has to run: that it is named is enough.
        "nodeSelector": { "example.org/nowhere": "" },
    })
}

fn bystander(kind: &str, api_version: &str, spec: Value) -> Value {
    json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "bystander" }, "spec": spec })
}

fn of_volumes() -> Vec<Trial> {
    let patched = |name, code, patch: fn() -> VolumePatch| {
        refusal(name, code, async move |stage| {
            let volume = stage.volume().await?;
            stage.bed.ec2().patch_volume(&volume, &patch()).await
        })
    };
    vec![
        patched("multi_attach", "PF-16", || VolumePatch { multi_attach: Some(true), ..VolumePatch::default() }),
        patched("another_zone_in_ec2", "PF-17", || VolumePatch {
            zone: Some("eu-west-1c".to_owned()),
            ..VolumePatch::default()
        }),
        // A zone in which no trial ever puts a node of the shared clusters.
        patched("a_zone_without_nodes", "PF-22", || VolumePatch {
            zone: Some("eu-west-1d".to_owned()),
            ..VolumePatch::default()
        }),
        refusal("a_claim_of_another_storage", "PF-15", async |stage| {
            stage.add_ordinal(json!({ "hostPath": { "path": "/srv" } })).await
        }),
        refusal("a_driver_that_is_not_in_the_destination", "PF-26", async |stage| {
            let made = stage.bed.ec2().create_volume(&NewVolume::default()).await?;
            let source = json!({ "driver": "ebs.csi.eks.amazonaws.com", "volumeHandle": made.volume });
            stage.add_ordinal(json!({ "csi": source })).await
        }),
        patched("deletion_on_termination", "PF-23", || VolumePatch {
            delete_on_termination: Some(true),
            ..VolumePatch::default()
        }),
        patched("a_managed_volume", "PF-23", || VolumePatch {
            managed_by: Some("service.example".to_owned()),
            ..VolumePatch::default()
        }),
        patched("a_tag_that_scopes_to_a_cluster", "PF-25", || VolumePatch {
            tags: [("ebs.csi.aws.com/cluster-name".to_owned(), "a".to_owned())].into(),
            ..VolumePatch::default()
        }),
        refusal("a_region_without_the_volume", "PF-24", async |stage| {
            stage.flag("--region", "eu-central-1");
            Ok(())
        }),
        refusal("another_account", "PF-24", async |stage| {
            stage.tool = stage.bed.take_tool();
            let mut key = stage.bed.ec2().key(&stage.tool.access_key).await?;
            key.account = "999999999999".to_owned();
            stage.bed.ec2().set_key(&key).await
        }),
        refusal("an_account_that_may_not_describe", "PF-24", async |stage| {
            stage.tool = stage.bed.take_tool();
            let mut key = stage.bed.ec2().key(&stage.tool.access_key).await?;
            key.allow.clear();
            stage.bed.ec2().set_key(&key).await
        }),
    ]
}

fn of_the_destination() -> Vec<Trial> {
    vec![
        refusal("a_twin_in_the_source", "PF-19", async |stage| twin(stage, Cluster::A).await),
        refusal("a_twin_in_the_destination", "PF-19", async |stage| twin(stage, Cluster::B).await),
        refusal("a_set_in_the_destination", "PF-20", async |stage| {
            Workload::new(&stage.namespace, SET).replicas(0).apply(&stage.b).await
        }),
        refusal("a_claim_in_the_destination", "PF-20", async |stage| {
            let spec = json!({
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": USUAL_CLASS,
                "resources": { "requests": { "storage": "1Gi" } },
            });
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "data-web-0" }, "spec": spec,
            });
            stage.put(Cluster::B, claim).await
        }),
        refusal_of(
            "a_class_that_is_not_there",
            "PF-27",
            |workload| workload.claim("log", "1Gi", "pf-only-here").class(Class::new("pf-only-here")),
            async |_| Ok(()),
        ),
        refusal_of(
            "a_class_of_another_provisioner",
            "PF-27",
            |workload| workload.claim("log", "1Gi", "pf-differs").class(Class::new("pf-differs")),
            async |stage| {
                let class = Class::new("pf-differs").provisioner("efs.csi.aws.com").manifest();
                stage.put(Cluster::B, class).await
            },
        ),
        refusal_of(
            "a_missing_secret",
            "PF-31",
            |workload| {
                let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "password" } });
                workload.object(secret).volume("password", json!({ "secret": { "secretName": "password" } }))
            },
            async |_| Ok(()),
        ),
        refusal_of(
            "a_secret_of_other_content",
            "PF-31",
            |workload| {
                workload.object(password("one")).volume("password", json!({ "secret": { "secretName": "password" } }))
            },
            async |stage| stage.put(Cluster::B, password("another")).await,
        ),
        refusal("a_governing_service_of_another_meaning", "PF-33", async |stage| {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": SET },
                "spec": { "selector": { "app": "something-else" }, "ports": [{ "port": 80 }] },
            });
            stage.put(Cluster::B, service).await
        }),
        refusal_of(
            "a_namespace_that_is_spelt_out",
            "PF-43",
            |workload| {
                workload.edit(|set| {
                    let variable = json!({ "name": "PEERS", "value": "web.pf-a-namespace-that-is-spelt-out.svc" });
                    set["spec"]["template"]["spec"]["containers"][0]["env"] = json!([variable]);
                })
            },
            async |stage| {
                namespace(&stage.b, "pf-elsewhere").await?;
                stage.flag("--dst-namespace", "pf-elsewhere");
                Ok(())
            },
        ),
    ]
}

/// A PV of the volume that shall move, which keeps it when it is deleted itself.
async fn twin(stage: &Stage, cluster: Cluster) -> Result<()> {
    let volume = stage.volume().await?;
    let object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": format!("{}-twin", stage.namespace) },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "twin",
            "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": volume },
        },
    });
    stage.put(cluster, object).await
}

fn password(password: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "password" },
        "stringData": { "password": password },
    })
}
