//! Shapes of sets as the world's charts make them: each moves and comes back, or is refused with a code.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use bed::ec2::{NewVolume, ZONES};
use bed::judge::Order;
use bed::node::NewNode;
use bed::workload::{Class, USUAL_CLASS, Workload, absent, apply, exists, namespace, until};
use bed::{Bed, Cluster, users};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::stage::{PATIENT, Stage};
use crate::support::{Ended, eventually, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("charts::an_existing_claim_moves_but_not_under_a_cron_job", existing_claim),
        on_bed("charts::claim_templates_with_odd_names_and_fields_are_cleaned", odd_templates),
        on_bed("charts::a_partition_is_no_roll_out_but_a_custom_resource_holds_the_set", held),
        on_bed("charts::a_readiness_gate_of_an_operator_is_refused", gated),
        on_bed("charts::another_environment_in_the_destination_is_told_once_each", other_environment),
        on_bed("charts::twelve_members_keep_apart_in_three_zones", twelve),
        on_bed("charts::seven_templates_a_long_name_and_a_long_grace_period", long),
    ]
}

/// Fails unless a run was refused with this code, and returns what was said.
fn refused(ended: Ended, code: &str) -> Result<String> {
    let said = ended.expect_code(3).stderr;
    ensure!(said.lines().any(|line| line.starts_with(&format!("{code} blocks"))), "no {code} that blocks in\n{said}");
    Ok(said)
}

async fn existing_claim(bed: &'static Bed) -> Result<()> {
    let dress = |set: Workload| {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": USUAL_CLASS,
            "resources": { "requests": { "storage": "1Gi" } },
        });
        set.object(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "existing" }, "spec": spec,
        }))
        .volume("data", json!({ "persistentVolumeClaim": { "claimName": "existing" } }))
    };
    let stage = Stage::new(bed, "existing", dress).await?;
    let pod = json!({
        "restartPolicy": "Never",
        "containers": [{ "name": "main", "image": "registry.example/backup:1" }],
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "existing" } }],
    });
    let job = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "backup", "namespace": stage.source },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": { "spec": pod } } } },
    });
    apply(&stage.a, job).await?;
    let said = refused(stage.run("run", &["--yes"]).await?, "PF-18")?;
    for help in ["patch cronjob backup", "--force", "move-volume"] {
        ensure!(said.contains(help), "it does not say `{help}`: {said}");
    }
    let jobs: Api<CronJob> = Api::namespaced(stage.a.clone(), &stage.source);
    jobs.delete("backup", &DeleteParams::default()).await?;
    absent(jobs, "backup", PATIENT).await?;

    let case = stage.case().await?.with_claim(bed, "existing", 0).await?;
    stage.there_and_back(case, &[]).await?;
    stage.leave().await
}

/// A volume that was made by hand, with a PV that claims select by label.
async fn by_hand(bed: &Bed, a: &Client, name: &str, class: &str) -> Result<()> {
    // By these the policies of the driver's controller know a volume.
    let tags = [("ebs.csi.aws.com/cluster".to_owned(), "true".to_owned())].into();
    let volume = bed.ec2().create_volume(&NewVolume { tags, ..NewVolume::default() }).await?;
    let zone = json!({ "key": "topology.kubernetes.io/zone", "operator": "In", "values": [volume.zone] });
    let object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": { "name": name, "labels": { "disk": "by-hand" } },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": { "storage": "1Gi" },
            "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": volume.volume, "fsType": "ext4" },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [zone] }] } },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": class,
        },
    });
    apply(a, object).await.map(|_| ())
}

async fn odd_templates(bed: &'static Bed) -> Result<()> {
    const OLD: &str = "charts-odd-old";
    const NEW: &str = "charts-odd-new";
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    namespace(&a, "move-odd").await?;
    by_hand(bed, &a, "charts-odd-by-hand", OLD).await?;
    let owner = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "owner", "namespace": "move-odd" },
    });
    let uid = apply(&a, owner).await?.metadata.uid.context("what is there has a uid")?;
    let dress = |set: Workload| {
        set.class(Class::new(OLD)).claim("web", "1Gi", OLD).claim("log-0", "1Gi", OLD).edit(move |set| {
            let templates = &mut set["spec"]["volumeClaimTemplates"];
            let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid });
            templates[0]["metadata"]["ownerReferences"] = json!([owner]);
            templates[0]["metadata"]["annotations"] = json!({ "volume.beta.kubernetes.io/storage-class": OLD });
            templates[0]["spec"]["storageClassName"] = Value::Null;
            templates[1]["spec"]["volumeName"] = json!("charts-odd-by-hand");
            templates[1]["spec"]["selector"] = json!({ "matchLabels": { "disk": "by-hand" } });
        })
    };
    let stage = Stage::new(bed, "odd", dress).await?;
    apply(&stage.b, Class::new(NEW).manifest()).await?;
    let map = format!("{OLD}={NEW}");
    // An owner that deletes the claims with itself is for a person to judge.
    let said = refused(stage.run("run", &["--storage-class-map", &map, "--yes"]).await?, "PF-8")?;
    ensure!(said.contains("ConfigMap owner"), "{said}");

    let case = stage.case().await?.with_class(OLD, NEW);
    let flags = ["--storage-class-map", &map, "--force"];
    stage.run("run", &[&flags[..], &["--yes", "--until", "prepare"]].concat()).await?.expect_code(0);
    let set = serde_json::to_value(stage.set(Cluster::B).await?.context("the set is in B")?)?;
    let templates = set["spec"]["volumeClaimTemplates"].as_array().context("it has claim templates")?;
    for (template, claim) in templates.iter().zip(["web-web-0", "log-0-web-0"]) {
        ensure!(template["metadata"].get("ownerReferences").is_none(), "{template}");
        for field in ["volumeName", "selector"] {
            ensure!(template["spec"].get(field).is_none(), "{template}");
        }
        ensure!(!template.to_string().contains(OLD), "{template}");
        let claim = serde_json::to_value(stage.claims(Cluster::B).get(claim).await?)?;
        ensure!(claim["spec"]["storageClassName"] == NEW, "{claim}");
        ensure!(claim["metadata"].get("ownerReferences").is_none(), "{claim}");
        ensure!(claim["spec"].get("selector").is_none(), "{claim}");
        ensure!(claim.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class").is_none(), "{claim}");
    }
    stage.there_and_back(case, &flags).await?;
    stage.leave().await
}

/// Puts the definition of a kind into a cluster that only an operator would know, and waits for it to be served.
async fn define_databases(client: &Client) -> Result<Api<DynamicObject>> {
    let definition: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "databases.charts.example.org" },
        "spec": {
            "group": "charts.example.org",
            "scope": "Namespaced",
            "names": { "kind": "Database", "plural": "databases" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } },
            }],
        },
    }))?;
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let definitions: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    definitions.create(&PostParams::default(), &definition).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("charts.example.org", "v1", "Database"));
    let databases = Api::namespaced_with(client.clone(), "move-held", &kind);
    eventually("the new kind to be served", PATIENT, async || {
        databases.list(&Default::default()).await?;
        Ok(Some(()))
    })
    .await?;
    Ok(databases)
}

async fn held(bed: &'static Bed) -> Result<()> {
    let partition = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } });
    let dress = |set: Workload| set.replicas(2).claim("data", "1Gi", USUAL_CLASS).update_strategy(partition);
    let stage = Stage::new(bed, "held", dress).await?;
    let databases = define_databases(&stage.a).await?;
    let resource = json!({
        "apiVersion": "charts.example.org/v1", "kind": "Database", "metadata": { "name": stage.workload.name() },
    });
    databases.create(&PostParams::default(), &serde_json::from_value(resource)?).await?;
    let flags = ["--order", "one-by-one"];
    let said = refused(stage.run("run", &[&flags[..], &["--yes"]].concat()).await?, "PF-8")?;
    ensure!(said.contains("Database.charts.example.org"), "it names what holds it: {said}");
    databases.delete(stage.workload.name(), &DeleteParams::default()).await?;

    let case = stage.case().await?;
    stage.there_and_back(case, &flags).await?;
    stage.leave().await
}

async fn gated(bed: &'static Bed) -> Result<()> {
    const GATE: &str = "charts.example.org/in-sync";
    let a = bed.client(Cluster::A, users::ADMIN).await?;
    // What the operator does: it opens the gate of the pod that it knows.
    let operator = tokio::spawn(async move {
        let pods: Api<Pod> = Api::namespaced(a, "move-gated");
        exists(pods.clone(), "web-0", PATIENT).await?;
        let open = json!({ "status": { "conditions": [{ "type": GATE, "status": "True" }] } });
        pods.patch_status("web-0", &PatchParams::default(), &Patch::Strategic(open)).await?;
        anyhow::Ok(())
    });
    let dress = |set: Workload| {
        set.claim("data", "1Gi", USUAL_CLASS).edit(|set| {
            set["spec"]["template"]["spec"]["readinessGates"] = json!([{ "conditionType": GATE }]);
        })
    };
    let stage = Stage::new(bed, "gated", dress).await?;
    operator.await??;
    let said = refused(stage.run("run", &["--yes"]).await?, "PF-8")?;
    ensure!(said.contains(GATE), "it names the gate: {said}");
    ensure!(!said.contains("PF-11") && !said.contains("PF-12"), "the set is at rest and well: {said}");
    stage.leave().await
}

async fn other_environment(bed: &'static Bed) -> Result<()> {
    let secret = |namespace: &str, password: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "password", "namespace": namespace },
            "stringData": { "password": password },
        })
    };
    let account = |namespace: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "leader", "namespace": namespace } });
    let dress = |set: Workload| {
        let source = set.namespace().to_owned();
        let meta = |name: &str| json!({ "name": name, "namespace": source });
        let labels = json!({ "app": set.name() });
        let config = json!({ "peers": format!("web.{source}.svc.cluster.local") });
        let group = "rbac.authorization.k8s.io";
        set.claim("data", "1Gi", USUAL_CLASS)
            .object(secret(&source, "one"))
            .object(account(&source))
            .object(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("config"), "data": config }))
            .object(json!({
                "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": meta("leader"),
                "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["update"] }],
            }))
            .object(json!({
                "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": meta("leader"),
                "roleRef": { "apiGroup": group, "kind": "Role", "name": "leader" },
                "subjects": [{ "kind": "ServiceAccount", "name": "leader", "namespace": source }],
            }))
            .object(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta("guard"),
                "spec": { "podSelector": { "matchLabels": labels }, "policyTypes": ["Ingress"] },
            }))
            .volume("password", json!({ "secret": { "secretName": "password" } }))
            .volume("config", json!({ "configMap": { "name": "config" } }))
            .edit(|set| set["spec"]["template"]["spec"]["serviceAccountName"] = json!("leader"))
    };
    let stage = Stage::new(bed, "environment", dress).await?;
    apply(&stage.b, secret(&stage.destination, "another")).await?;
    apply(&stage.b, account(&stage.destination)).await?;
    let config = json!({ "peers": format!("web.{}.svc.cluster.local", stage.source) });
    let maps: Api<ConfigMap> = Api::namespaced(stage.b.clone(), &stage.destination);
    let map = json!({ "metadata": { "name": "config" }, "data": config });
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;

    let ended = stage.run("preflight", &["-o", "json"]).await?.expect_code(3);
    let findings: Vec<Value> = serde_json::from_str(&ended.stdout)?;
    let found: Vec<(&str, &str)> = findings
        .iter()
        .filter(|finding| matches!(finding["code"].as_str(), Some("PF-31" | "PF-43")))
        .filter_map(|finding| Some((finding["code"].as_str()?, finding["subject"].as_str()?)))
        .collect();
    for (code, part) in [
        ("PF-31", "ServiceAccount leader"),
        ("PF-31", "Secret password"),
        ("PF-31", "StatefulSet web"),
        ("PF-43", "StatefulSet web"),
    ] {
        let of_it = found.iter().filter(|(of, subject)| *of == code && subject.contains(part)).count();
        ensure!(of_it == 1, "{of_it} findings {code} about {part} in {findings:#?}");
    }
    ensure!(found.len() == 4, "{found:?}");
    // A person has looked at them: it moves, and back.
    let case = stage.case().await?;
    stage.there_and_back(case, &["--force"]).await?;
    stage.leave().await
}

/// Adds four nodes in each zone of both clusters, where nothing else runs. They stay until the bed's end:
/// other trials may be listing nodes.
async fn add_nodes(bed: &'static Bed, pool: &str) -> Result<()> {
    for cluster in Cluster::BOTH {
        let nodes: Api<Node> = Api::all(bed.client(cluster, users::ADMIN).await?);
        let is_ready = |node: Option<&Node>| {
            let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
            taints.is_some_and(|taints| taints.iter().all(|taint| taint.key == pool))
        };
        let places = ZONES.into_iter().flat_map(|zone| (0..4).map(move |number| (zone, number)));
        let names = try_join_all(places.map(async |(zone, number)| -> Result<String> {
            let mut node = NewNode::new(cluster, zone);
            node.name = Some(format!("{pool}-{}-{zone}-{number}", cluster.name()));
            node.labels = [("pool".to_owned(), pool.to_owned())].into();
            node.taints = vec![serde_json::from_value(json!({ "key": pool, "effect": "NoSchedule" }))?];
            Ok(bed.nodes().add_node(&node).await?.name)
        }))
        .await?;
        for name in names {
            until(nodes.clone(), &name, PATIENT, "ready", is_ready).await?;
        }
    }
    Ok(())
}

async fn twelve(bed: &'static Bed) -> Result<()> {
    const POOL: &str = "charts-twelve";
    add_nodes(bed, POOL).await?;
    let dress = |set: Workload| {
        set.replicas(12).parallel().claim("data", "1Gi", USUAL_CLASS).node_selector("pool", POOL).toleration(POOL).edit(
            |set| {
                let apart = json!({
                    "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "kubernetes.io/hostname",
                });
                set["spec"]["template"]["spec"]["affinity"] =
                    json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [apart] } });
            },
        )
    };
    let stage = Stage::new(bed, "twelve", dress).await?;
    let case = stage.case().await?.ordered(Order::Together);
    let zones: BTreeSet<&str> = case.volumes.iter().map(|volume| volume.zone.as_str()).collect();
    ensure!(zones.into_iter().eq(ZONES), "the members are in all zones");
    stage.there_and_back(case, &["--order", "together"]).await?;
    stage.leave().await
}

/// How long the hook of a pod with a long grace period takes, in seconds.
const PRE_STOP: i64 = 3;

/// Returns how long a pod took to end once the tool had stopped it: between the tool's delete and its node's,
/// by the clock of the API server.
fn ending(stage: &Stage, cluster: Cluster, pod: &str) -> Result<SignedDuration> {
    let events = stage.bed.audit(cluster)?;
    let deleted = |user: &str| {
        let its = events.iter().find(|it| {
            let object = &it["objectRef"];
            let place = (&object["resource"], &object["namespace"], &object["name"]);
            let wanted = (&json!("pods"), &json!(stage.namespace(cluster)), &json!(pod));
            it["verb"] == "delete" && it["user"]["username"] == user && place == wanted
        });
        let time = its.and_then(|it| it["requestReceivedTimestamp"].as_str());
        anyhow::Ok(time.with_context(|| format!("{user} did not delete {pod}"))?.parse::<Timestamp>()?)
    };
    Ok(deleted(users::NODE_AGENT)?.duration_since(deleted(&stage.tool.user)?))
}

async fn long(bed: &'static Bed) -> Result<()> {
    // The longest name whose pods get their revision label.
    let name = "a-name-as-long-as-charts-with-two-prefixes-make-them";
    ensure!(name.len() == 52);
    let mut set = Workload::new("move-long", name).grace_seconds(600).edit(|set| {
        let command = json!({ "exec": { "command": ["/bin/sh", "-c", format!("sleep {PRE_STOP}")] } });
        set["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": command });
    });
    for template in ["data", "wal", "log", "index", "cold", "spool", "tmp"] {
        set = set.claim(template, "1Gi", USUAL_CLASS);
    }
    // Its container ends long before its grace period does, and nobody waits for the rest.
    let stage = Stage::of(bed, set).await?;
    let case = stage.case().await?;
    ensure!(case.volumes.len() == 7);
    stage.there_and_back(case, &[]).await?;
    for cluster in Cluster::BOTH {
        let took = ending(&stage, cluster, &format!("{name}-0"))?;
        ensure!(took >= SignedDuration::from_secs(PRE_STOP), "the hook was not waited for in {cluster:?}: {took:?}");
    }
    stage.leave().await
}
