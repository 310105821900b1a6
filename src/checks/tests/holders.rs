//! PF-8 to PF-10, PF-18: who else holds, tracks, scales or uses the set.

use serde_json::{Value, json};

use super::{Bench, forbidden, pod};
use crate::checks::Level;
use crate::fixtures;
use crate::world::{Kind, Namesakes, Side};

#[test]
fn signs_of_an_operator_can_be_forced() {
    let signs: [fn(&mut Value); 5] = [
        |set| {
            set["metadata"]["ownerReferences"] =
                json!([{ "kind": "Postgres", "name": "web", "uid": "u", "controller": true }])
        },
        |set| set["metadata"]["labels"]["strimzi.io/cluster"] = "web".into(),
        |set| set["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "example-operator".into(),
        |set| set["metadata"]["managedFields"] = json!([{ "manager": "postgres-operator", "operation": "Apply" }]),
        |set| set["spec"]["template"]["spec"]["readinessGates"] = json!([{ "conditionType": "example.org/in-sync" }]),
    ];
    for sign in signs {
        let mut bench = Bench::fine();
        bench.set(sign);
        bench.one("PF-8", Level::Forceable);
    }
}

#[test]
fn a_custom_resource_of_the_sets_name_can_be_forced() {
    let mut bench = Bench::fine();
    let key = (Side::Source, "web".to_owned());
    let names =
        ["ServiceMonitor.monitoring.coreos.com", "Certificate.cert-manager.io", "VirtualService.networking.istio.io"];
    let mut namesakes = Namesakes { found: names.map(str::to_owned).to_vec(), unknown: None };
    bench.world.namesakes.insert(key.clone(), namesakes.clone());
    bench.passes();
    namesakes.unknown = Some(forbidden());
    bench.world.namesakes.insert(key.clone(), namesakes.clone());
    bench.one("PF-8", Level::Warns);
    namesakes = Namesakes { found: vec!["Database.example.org".to_owned()], unknown: None };
    bench.world.namesakes.insert(key, namesakes);
    assert!(bench.one("PF-8", Level::Forceable).what.contains("Database.example.org"));
}

#[test]
fn carriers_of_manifests_are_no_operators() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["metadata"]["managedFields"] = json!([
            { "manager": "kubectl-client-side-apply" },
            { "manager": "helm" },
            { "manager": "kustomize-controller" },
            { "manager": "some-controller", "subresource": "status" },
        ]);
        set["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm".into();
    });
    bench.passes();
}

#[test]
fn a_claim_with_a_foreign_owner_can_be_forced() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::PersistentVolumeClaim, "data-web-1", |claim| {
        claim["metadata"]["ownerReferences"] = json!([{ "kind": "Kafka", "name": "web", "uid": "u" }]);
    });
    let finding = bench.one("PF-8", Level::Forceable);
    assert!(finding.what.contains("Kafka web") && finding.subject.contains("data-web-1"), "{finding:?}");
}

#[test]
fn a_claim_owned_by_its_set_is_a_retention_policy_at_work() {
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::PersistentVolumeClaim, "data-web-1", |claim| {
        claim["metadata"]["ownerReferences"] =
            json!([{ "kind": "StatefulSet", "name": "web", "uid": fixtures::SET_UID }]);
    });
    bench.passes();
}

fn application(name: &str, sync_policy: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": "argocd" }, "spec": { "syncPolicy": sync_policy } })
}

#[test]
fn an_automated_or_unknown_argo_application_can_be_forced() {
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["metadata"]["annotations"] = json!({ "argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:shop/web" })
    });
    assert!(bench.one("PF-9", Level::Forceable).what.contains("was not found"));
    bench.put(Side::Source, Kind::Application, application("shop", json!({ "automated": {} })));
    let finding = bench.one("PF-9", Level::Forceable);
    assert!(finding.remedy.contains("-n argocd annotate application shop"), "{finding:?}");
}

#[test]
fn an_argo_application_that_does_not_sync_by_itself_is_silent() {
    for policy in [json!({}), json!({ "automated": { "enabled": false } })] {
        let mut bench = Bench::fine();
        bench.set(|set| {
            set["metadata"]["annotations"] =
                json!({ "argocd.argoproj.io/tracking-id": "shop:apps/StatefulSet:shop/web" })
        });
        bench.put(Side::Source, Kind::Application, application("shop", policy));
        bench.passes();
    }
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["metadata"]["annotations"] =
            json!({ "argocd.argoproj.io/tracking-id": "argo2_shop:apps/StatefulSet:shop/web" })
    });
    let mut paused = application("shop", json!({ "automated": {} }));
    paused["metadata"] = json!({
        "name": "shop", "namespace": "argo2",
        "annotations": { "argocd.argoproj.io/skip-reconcile": "true" },
    });
    bench.put(Side::Destination, Kind::Application, paused);
    bench.passes();
}

#[test]
fn flux_is_silent_only_when_it_is_suspended() {
    for (kind, group) in
        [(Kind::Kustomization, "kustomize.toolkit.fluxcd.io"), (Kind::HelmRelease, "helm.toolkit.fluxcd.io")]
    {
        let mut bench = Bench::fine();
        bench.set(|set| {
            set["metadata"]["labels"][format!("{group}/name")] = "apps".into();
            set["metadata"]["labels"][format!("{group}/namespace")] = "flux-system".into();
        });
        bench.one("PF-9", Level::Forceable);
        // One of the same name in another namespace says nothing about this one.
        let object = |namespace: &str, suspend: bool| json!({ "metadata": { "name": "apps", "namespace": namespace }, "spec": { "suspend": suspend } });
        bench.put(Side::Source, kind, object("team", true));
        bench.one("PF-9", Level::Forceable);
        bench.put(Side::Source, kind, object("flux-system", true));
        bench.passes();
    }
}

#[test]
fn other_keepers_can_be_forced_and_helm_warns() {
    let mut bench = Bench::fine();
    bench.set(|set| set["metadata"]["annotations"] = json!({ "objectset.rio.cattle.io/id": "x" }));
    assert!(bench.one("PF-9", Level::Forceable).what.contains("Rancher Fleet"));
    let mut bench = Bench::fine();
    bench.set(|set| {
        set["metadata"]["annotations"] =
            json!({ "meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": "shop" });
    });
    assert!(bench.one("PF-9", Level::Warns).what.contains("shop/shop"));
}

#[test]
fn keepers_of_claims_volumes_and_services_count_too() {
    let mark =
        |object: &mut Value| object["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "other:x".into();
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::PersistentVolumeClaim, "logs-web-2", mark);
    assert!(bench.one("PF-9", Level::Forceable).subject.contains("logs-web-2"));
    let mut bench = Bench::fine();
    bench.volume("data-web-0", mark);
    bench.one("PF-9", Level::Forceable);
    let mut bench = Bench::fine();
    bench.edit(Side::Source, Kind::Service, "web", mark);
    bench.one("PF-9", Level::Forceable);
}

fn scaler(kind: &str, mut target: Value) -> Value {
    target["name"] = "web".into();
    json!({ "metadata": { "name": kind, "namespace": "shop" }, "spec": { "scaleTargetRef": target, "targetRef": target } })
}

#[test]
fn autoscalers_of_the_set_block_on_both_sides() {
    for side in Side::BOTH {
        for kind in [Kind::HorizontalPodAutoscaler, Kind::ScaledObject] {
            let mut bench = Bench::fine();
            bench.put(side, kind, scaler("scaler", json!({ "kind": "Deployment" })));
            bench.passes();
            bench.put(side, kind, scaler("scaler", json!({ "kind": "StatefulSet" })));
            let finding = bench.one("PF-10", Level::Blocks);
            assert!(finding.subject.contains(&side.to_string()), "{finding:?}");
        }
    }
}

#[test]
fn a_paused_scaled_object_passes_with_its_own_autoscaler() {
    let mut bench = Bench::fine();
    let mut scaled = scaler("scaler", json!({ "kind": "StatefulSet" }));
    scaled["metadata"]["annotations"] = json!({ "autoscaling.keda.sh/paused": "true" });
    bench.put(Side::Destination, Kind::ScaledObject, scaled.clone());
    let mut own = scaler("keda-hpa-scaler", json!({ "kind": "StatefulSet" }));
    own["metadata"]["ownerReferences"] = json!([{ "kind": "ScaledObject", "name": "scaler", "uid": "u" }]);
    bench.put(Side::Destination, Kind::HorizontalPodAutoscaler, own);
    bench.passes();
    // Paused at a number is a scaling in the destination, where fewer are handed over.
    scaled["metadata"]["annotations"] = json!({ "autoscaling.keda.sh/paused-replicas": "3" });
    bench.put(Side::Source, Kind::ScaledObject, scaled.clone());
    bench.passes();
    bench.put(Side::Destination, Kind::ScaledObject, scaled);
    bench.one("PF-10", Level::Blocks);
}

#[test]
fn a_vertical_autoscaler_that_evicts_can_be_forced() {
    let mut bench = Bench::fine();
    bench.put(Side::Source, Kind::VerticalPodAutoscaler, scaler("vpa", json!({ "kind": "StatefulSet" })));
    bench.one("PF-10", Level::Forceable);
    bench.edit(Side::Source, Kind::VerticalPodAutoscaler, "vpa", |vpa| {
        vpa["spec"]["updatePolicy"] = json!({ "updateMode": "Off" })
    });
    bench.passes();
}

#[test]
fn autoscalers_that_cannot_be_listed_block() {
    let mut bench = Bench::fine();
    bench.refuse(Side::Destination, Kind::HorizontalPodAutoscaler);
    bench.one("PF-10", Level::Blocks);
    let mut bench = Bench::fine();
    bench.refuse(Side::Source, Kind::VerticalPodAutoscaler);
    bench.one("PF-10", Level::Warns);
}

#[test]
fn another_pod_on_a_claim_blocks_until_it_has_ended() {
    for side in Side::BOTH {
        let mut bench = Bench::fine();
        bench.put(side, Kind::Pod, pod("debug", "data-web-1"));
        assert!(bench.one("PF-18", Level::Blocks).subject.contains("debug"));
        bench.edit(side, Kind::Pod, "debug", |pod| pod["status"]["phase"] = "Succeeded".into());
        bench.passes();
    }
}

fn workload(name: &str, claim: &str) -> Value {
    let template = json!({ "spec": pod(name, claim)["spec"] });
    json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": { "template": template, "replicas": 1 } })
}

#[test]
fn a_workload_template_on_a_claim_blocks() {
    for side in Side::BOTH {
        for kind in [Kind::Deployment, Kind::DaemonSet, Kind::Job, Kind::StatefulSet] {
            let mut bench = Bench::fine();
            bench.put(side, kind, workload("backup", "data-web-1"));
            assert!(bench.one("PF-18", Level::Blocks).subject.contains("backup"));
        }
    }
}

#[test]
fn a_workload_at_rest_can_be_forced_and_an_ended_job_is_nothing() {
    let mut bench = Bench::fine();
    bench.put(Side::Source, Kind::Deployment, workload("backup", "data-web-1"));
    bench.edit(Side::Source, Kind::Deployment, "backup", |workload| workload["spec"]["replicas"] = 0.into());
    bench.one("PF-18", Level::Forceable);
    let mut bench = Bench::fine();
    bench.put(Side::Source, Kind::Job, workload("backup", "data-web-1"));
    bench.edit(Side::Source, Kind::Job, "backup", |job| {
        job["status"]["conditions"] = json!([{ "type": "Complete", "status": "True" }])
    });
    bench.passes();
}

#[test]
fn a_cron_job_on_a_claim_blocks_with_the_command_that_suspends_it() {
    let mut bench = Bench::fine();
    let job = workload("backup", "data-web-1")["spec"].clone();
    let cron = json!({ "metadata": { "name": "backup" }, "spec": { "jobTemplate": { "spec": job } } });
    bench.put(Side::Source, Kind::CronJob, cron);
    let finding = bench.one("PF-18", Level::Blocks);
    assert!(finding.remedy.contains("patch cronjob backup"), "{finding:?}");
    assert!(finding.remedy.contains("sts-migrate move-volume"), "{finding:?}");
    bench.edit(Side::Source, Kind::CronJob, "backup", |cron| cron["spec"]["suspend"] = true.into());
    bench.one("PF-18", Level::Forceable);
}

#[test]
fn another_set_that_constructs_the_same_claim_name_blocks() {
    let mut bench = Bench::fine();
    // Template `data-web` of set `web` and template `data` of set `web-web` mean the same claims.
    bench.set(|set| set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = "data-web".into());
    let findings = bench.findings();
    assert!(findings.iter().any(|finding| finding.code == "PF-13"), "{findings:#?}");
    let sibling = json!({
        "metadata": { "name": "web-web", "uid": "u" },
        "spec": { "replicas": 2, "volumeClaimTemplates": [{ "metadata": { "name": "data" } }], "template": {} },
    });
    bench.put(Side::Source, Kind::StatefulSet, sibling);
    let findings = bench.findings();
    let named: Vec<_> = findings.iter().filter(|finding| finding.code == "PF-18").collect();
    assert_eq!(named.len(), 2, "{findings:#?}");
    assert!(named[0].what.contains("data-web-web-0"), "{named:?}");
}
