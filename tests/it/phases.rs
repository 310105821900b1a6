//! Every phase by hand, in its turn and out of it; documents; events.

use std::fs;

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::workload::{USUAL_CLASS, Workload};
use bed::{Bed, Cluster};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::events;
use crate::migration::{usual, writes_of};
use crate::stage::{SET, Stage};
use crate::support::{Ended, on_bed};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("phases::each_by_hand_in_its_turn_and_refused_out_of_it", by_hand),
        on_bed("phases::by_hand_and_by_run_until_mixed_with_the_canary", mixed),
        on_bed("phases::a_document_names_clusters_by_file_and_by_secret", document),
        on_bed("phases::events_tell_a_run_from_begin_to_end", told),
        on_bed("phases::a_canary_of_one_pauses_before_the_cutover_and_the_deleting", canary),
        on_bed("phases::bad_input_changes_nothing_and_names_the_nearest", bad_input),
    ]
}

impl Stage {
    /// Fails unless a laptop elsewhere sees this phase, and says these commands for next.
    pub(crate) async fn expect_phase(&self, phase: &str, paused: bool, next: &[&str]) -> Result<()> {
        let status = self.status_elsewhere().await?["status"].clone();
        ensure!(status["phase"] == phase && status["paused"] == paused, "not {phase}: {status:#}");
        let commands: Vec<&str> =
            status["next"]["commands"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_said = |command: &&str| commands.iter().any(|it| it.starts_with(&format!("sts-migrate {command} ")));
        ensure!(next.iter().all(is_said) && commands.len() == next.len(), "not {next:?}: {status:#}");
        ensure!(status["lockedBy"].is_null(), "nobody is at work: {status:#}");
        Ok(())
    }

    /// Runs a command whose turn it is not.
    async fn refused(&self, command: &str, reason: &str, first: &str) -> Result<()> {
        let ended = self.run(command, &["--yes"]).await?.expect_code(4);
        ensure!(ended.stderr.contains(reason), "not `{reason}`: {}", ended.stderr);
        ensure!(ended.stderr.contains(&format!("`sts-migrate {first} ")), "not `{first}`: {}", ended.stderr);
        Ok(())
    }

    async fn done(&self, command: &str, more: &[&str]) -> Result<Ended> {
        let mut arguments = vec!["--yes"];
        arguments.extend(more);
        Ok(self.run(command, &arguments).await?.expect_code(0))
    }
}

/// A set that a load balancer with a name of its own publishes, and that a budget protects.
fn published(replicas: i32) -> impl FnOnce(Workload) -> Workload {
    move |set| {
        let name = "service.beta.kubernetes.io/aws-load-balancer-name";
        set.replicas(replicas)
            .claim("data", "1Gi", USUAL_CLASS)
            .object(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": "web-public", "annotations": { name: "shop" } },
                "spec": { "type": "LoadBalancer", "selector": { "app": SET }, "ports": [{ "port": 80 }] },
            }))
            .object(json!({
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": { "name": "web-budget" },
                "spec": { "maxUnavailable": 1, "selector": { "matchLabels": { "app": SET } } },
            }))
    }
}

async fn by_hand(bed: &'static Bed) -> Result<()> {
    // More than a line of names would show.
    let more: Vec<String> = (0..5).map(|it| format!("web-more-{it}")).collect();
    let dress = |set: Workload| more.iter().fold(published(2)(set), |set, name| set.service(name, json!({})));
    let stage = Stage::new(bed, "by-hand", dress).await?;
    let case = stage.case().await?;
    for command in ["swing", "finalize"] {
        stage.refused(command, "no migration of web is open", "run").await?;
    }
    ensure!(writes_of(bed, &stage.tool.user)? == [] as [String; 0], "a refusal changed something");
    let ended = stage.done("freeze", &["--order", "one-by-one"]).await?;
    ensure!(ended.stderr.contains("frozen: StatefulSet web is gone"), "{}", ended.stderr);
    ensure!(stage.set(Cluster::A).await?.is_none() && stage.ready_pods(Cluster::A).await? == 2);
    stage.expect_phase("MigratingPods", false, &["run", "rollback"]).await?;
    stage.refused("finalize", "it is not the turn of finalize: the last complete phase is freeze", "swing").await?;

    stage.done("swing", &["--pause-after", "0"]).await?;
    ensure!(stage.ready_pods(Cluster::A).await? == 1 && stage.ready_pods(Cluster::B).await? == 1);
    stage.expect_phase("MigratingPods", true, &["run", "rollback"]).await?;
    stage.refused("finalize", "it is not the turn of finalize: the last complete phase is freeze", "swing").await?;
    let ended = stage.done("swing", &[]).await?;
    ensure!(ended.stderr.contains("moved: all pods of web run in"), "{}", ended.stderr);
    stage.expect_phase("Finalizing", false, &["run", "rollback"]).await?;
    ensure!(!stage.has_service("web-public").await?, "what publishes waits for the cutover");

    let ended = stage.done("freeze", &[]).await?;
    let said = "freeze was complete already; the last complete phase is swing";
    ensure!(ended.stderr.contains(said) && !ended.stderr.contains("its pods run on"), "{}", ended.stderr);
    let ended = stage.done("finalize", &[]).await?;
    ensure!(stage.has_service("web-public").await?, "the cutover comes first");
    let mut left: Vec<String> = more.iter().map(|name| format!("Service {name}")).collect();
    left.extend(
        ["Service web-public with its load balancer", "PodDisruptionBudget web-budget", "Service web"]
            .map(str::to_owned),
    );
    let is_listed = |text: &str| {
        let list = text.split_once("left in the source cluster, yours to remove:\n").map_or("", |(_, list)| list);
        left.iter().all(|it| list.lines().any(|line| line == format!("  {it}")))
    };
    ensure!(is_listed(&ended.stderr), "{}", ended.stderr);
    stage.expect_phase("Completed", false, &[]).await?;
    let status = stage.status_elsewhere().await?;
    let listed = status["status"]["leftInSource"].as_array().context("what stays is listed")?;
    ensure!(left.iter().all(|it| listed.iter().any(|found| found == it)), "{status:#}");
    let text = stage.run("status", &[]).await?.expect_code(0).stdout;
    ensure!(is_listed(&text), "{text}");
    stage.end(case.expecting(Expected::Finalized)).await
}

impl Stage {
    async fn has_service(&self, name: &str) -> Result<bool> {
        let api: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(self.b.clone(), &self.destination);
        Ok(api.get_opt(name).await?.is_some())
    }
}

/// Behind the last ordinal come the cutover and the deleting: a pause after it is one before these.
async fn canary(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "canary", published(1)).await?;
    let case = stage.case().await?;
    let out_of_range = stage.run("run", &["--yes", "--pause-after", "1"]).await?.expect_code(2).stderr;
    ensure!(out_of_range.contains("there is no such ordinal, those of web are 0 to 0"), "{out_of_range}");
    ensure!(writes_of(bed, &stage.tool.user)? == [] as [String; 0], "a refusal changed something");
    for _ in 0..2 {
        let said = stage.done("run", &["--finalize", "--pause-after", "0"]).await?.stderr;
        ensure!(said.contains("paused after ordinal 0, as asked"), "{said}");
        ensure!(stage.ready_pods(Cluster::B).await? == 1 && !stage.has_service("web-public").await?, "{said}");
        ensure!(stage.volumes(Cluster::A).await?.len() == 1, "A keeps its volumes: {said}");
    }
    stage.expect_phase("Finalizing", true, &["run", "rollback"]).await?;
    case.clone().expecting(Expected::Moved).assert_clean(bed).await?;
    stage.back(case).await?;
    let case = stage.case().await?;
    let said = stage.done("run", &["--order", "together", "--pause-after", "0"]).await?.stderr;
    ensure!(said.contains("paused after ordinal 0, as asked"), "all is the last one: {said}");
    stage.done("run", &["--finalize"]).await?;
    ensure!(stage.has_service("web-public").await?);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn mixed(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "mixed", published(2)).await?;
    let case = stage.case().await?;
    let ended = stage.done("run", &["--order", "one-by-one", "--until", "prepare"]).await?;
    ensure!(ended.stderr.contains("nothing is down"), "{}", ended.stderr);
    stage.expect_phase("FreezingSource", false, &["run", "rollback"]).await?;
    stage.refused("swing", "it is not the turn of swing: the last complete phase is prepare", "freeze").await?;
    stage.refused("finalize", "it is not the turn of finalize: the last complete phase is prepare", "freeze").await?;
    stage.done("freeze", &[]).await?;
    let ended = stage.done("run", &["--pause-after", "0"]).await?;
    ensure!(ended.stderr.contains("paused after ordinal 0, as asked"), "{}", ended.stderr);
    ensure!(stage.ready_pods(Cluster::A).await? == 1 && stage.ready_pods(Cluster::B).await? == 1);
    // The canary is behind it: the same command does not go further.
    stage.done("run", &["--pause-after", "0"]).await?;
    ensure!(stage.ready_pods(Cluster::A).await? == 1);
    stage.done("run", &["--until", "swing"]).await?;
    ensure!(stage.ready_pods(Cluster::B).await? == 2 && !stage.has_service("web-public").await?);
    let ended = stage.done("run", &["--until", "prepare"]).await?;
    ensure!(ended.stderr.contains("prepare was complete already"), "{}", ended.stderr);
    stage.done("run", &["--until", "cutover"]).await?;
    stage.expect_phase("Finalizing", false, &["finalize", "rollback"]).await?;
    stage.done("swing", &[]).await?;
    stage.done("finalize", &[]).await?;
    let ended = stage.done("swing", &[]).await?;
    ensure!(ended.stderr.contains("StatefulSet web was moved already; nothing is left to do"), "{}", ended.stderr);
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn document(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "document", usual(1)).await?;
    let case = stage.case().await?;
    // A kubeconfig with B for its current context: once as a file, once in a Secret of A.
    let whole = fs::read_to_string(bed.kubeconfig(&stage.tool.user)?)?;
    let mut other: Value = serde_yaml::from_str(&whole)?;
    other["current-context"] = json!("b");
    let other = serde_yaml::to_string(&other)?;
    fs::write(stage.operator.home().join("b.kubeconfig"), &other)?;
    let secrets: Api<Secret> = Api::namespaced(stage.a.clone(), &stage.source);
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "cluster-b" },
        "stringData": { "kubeconfig": other },
    });
    secrets.create(&kube::api::PostParams::default(), &serde_json::from_value(secret)?).await?;
    let write = |name: &str, destination: Value| {
        let document = json!({
            "apiVersion": "sts-migrate.io/v1alpha1",
            "kind": "StatefulSetMigration",
            "spec": {
                "migrationId": "by-document",
                "sourceCluster": { "context": "a" },
                "sourceNamespace": stage.source,
                "statefulSetName": SET,
                "destCluster": destination,
                "destNamespace": stage.destination,
                "until": "swing",
            },
        });
        fs::write(stage.operator.home().join(name), serde_yaml::to_string(&document)?).context("write a document")
    };
    write("file.yaml", json!({ "kubeConfig": "b.kubeconfig" }))?;
    write("secret.yaml", json!({ "kubeConfigSecret": format!("{}/cluster-b", stage.source) }))?;
    write("typo.yaml", json!({ "kubeConfigSecret": format!("{}/cluster-bb", stage.source) }))?;

    let operator = &stage.operator;
    let ended = operator.run(["preflight", "-f", "typo.yaml"]).await?.expect_code(2);
    for said in [
        format!("there is no Secret `{}/cluster-bb`", stage.source),
        format!("in namespace {}: did you mean `cluster-b`?", stage.source),
    ] {
        ensure!(ended.stderr.contains(&said), "no {said}: {}", ended.stderr);
    }
    operator.run(["preflight", "-f", "secret.yaml"]).await?.expect_code(0);
    let plan = operator.run(["plan", "-f", "file.yaml", "-o", "json"]).await?.expect_code(0);
    let plan: Value = serde_json::from_str(&plan.stdout)?;
    ensure!(plan["migrationId"] == "by-document" && plan["sets"][0]["name"] == SET, "{plan:#}");
    let yaml = operator.run(["plan", "-f", "secret.yaml", "-o", "yaml"]).await?.expect_code(0);
    let yaml: Value = serde_yaml::from_str(&yaml.stdout)?;
    ensure!(yaml["sets"] == plan["sets"], "{yaml:#}");
    operator.run(["run", "-f", "file.yaml", "--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::B).await? == 1, "`until: swing` of the document");
    // Printed status is a document, in both forms.
    for form in ["json", "yaml"] {
        let printed = operator.run(["status", "-f", "secret.yaml", "-o", form]).await?.expect_code(0).stdout;
        ensure!(printed.contains("cluster-b") && !printed.contains("BEGIN CERTIFICATE"), "{printed}");
        fs::write(operator.home().join("printed"), printed)?;
        let ended = operator.run(["run", "-f", "printed", "--yes", "--until", "cutover"]).await?.expect_code(0);
        ensure!(ended.stderr.contains("next: sts-migrate finalize -f printed"), "{}", ended.stderr);
    }
    operator.run(["rollback", "-f", "secret.yaml", "--yes"]).await?.expect_code(0);
    ensure!(stage.ready_pods(Cluster::A).await? == 1);
    stage.end(case.expecting(Expected::RolledBack)).await
}

async fn told(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "events", usual(2)).await?;
    let case = stage.case().await?;
    let volumes = stage.workload.volumes(&stage.a).await?;
    let flags = ["--order", "one-by-one", "--events", "events.jsonl", "--verify-command", "true"];
    stage.done("run", &[&flags[..], &["--pause-after", "0"]].concat()).await?;
    stage.done("run", &flags[2..]).await?;
    stage.done("finalize", &["--events", "events.jsonl"]).await?;
    let all = events::documented(&stage.operator.home().join("events.jsonl"))?;
    let of = |kind: &str| events::of(&all, kind);
    ensure!(events::ends(&all) == ["pausedAfter", "reached", "completed"], "{:?}", events::ends(&all));
    ensure!(of("begin").iter().all(|it| it["set"] == SET && it["direction"] == "forward") && of("begin").len() == 3);
    // What was done, in its order; each once.
    let acts: Vec<String> = of("act")
        .iter()
        .filter(|it| it["step"] != "writeRecord" && it["outcome"] == "done")
        .map(|it| format!("{} {}", it["step"].as_str().unwrap_or_default(), it["name"].as_str().unwrap_or_default()))
        .collect();
    let position = |act: &str| acts.iter().position(|it| it == act).with_context(|| format!("no {act} in {acts:?}"));
    let order = [
        "retainVolume",
        "createVolume",
        "createClaim data-web-0",
        "createSet web",
        "freeze web",
        "deletePod web-0",
        "grow web",
        "deletePod web-1",
        "deleteSourceClaim data-web-0",
        "deleteSourceVolume",
    ];
    let begins =
        |act: &str| acts.iter().position(|it| it.starts_with(act)).with_context(|| format!("no {act}: {acts:?}"));
    let places = order.iter().map(|act| begins(act)).collect::<Result<Vec<_>>>()?;
    ensure!(places.is_sorted(), "{acts:?}");
    ensure!(position("deletePod web-1")? > position("grow web")?);
    ensure!(acts.iter().filter(|it| it.starts_with("deletePod")).count() == 2, "{acts:?}");
    ensure!(acts.iter().filter(|it| it.starts_with("grow")).count() == 2, "{acts:?}");
    let answers: Vec<&Value> = of("answer").iter().map(|it| &it["question"]).collect();
    ensure!(answers == ["freeze", "pod", "deleting"] || answers == ["freeze", "pod", "pod", "deleting"], "{answers:?}");
    // Facts: each volume goes from A over nobody to B; each pod is gone from A and seen in B.
    for (claim, volume) in volumes {
        let states: Vec<&Value> =
            of("volume").into_iter().filter(|it| it["volume"] == *volume).map(|it| &it["state"]).collect();
        let free =
            states.iter().position(|state| **state == "available").with_context(|| format!("{claim}: {states:?}"))?;
        ensure!(
            states[..free].contains(&&json!("in-use")) && states[free..].contains(&&json!("in-use")),
            "{claim}: {states:?}"
        );
        ensure!(
            states.windows(2).all(|pair| pair[0] != &json!("available") || pair[1] != &json!("available")),
            "{claim}: {states:?}"
        );
    }
    for pod in ["web-0", "web-1"] {
        let is = |side: &str, change: &str| {
            of("fact")
                .iter()
                .any(|it| it["name"] == pod && it["kind"] == "Pod" && it["side"] == side && it["change"] == change)
        };
        ensure!(is("source", "gone") && is("destination", "seen"), "{pod}");
    }
    let commands: Vec<(&Value, &Value)> = of("command").iter().map(|it| (&it["ordinal"], &it["change"])).collect();
    ensure!(
        commands.first() == Some(&(&json!(0), &json!("begins")))
            && commands.last() == Some(&(&json!(1), &json!("done")))
    );
    stage.end(case.expecting(Expected::Finalized)).await
}

async fn bad_input(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "bad-input", usual(1)).await?;
    let case = stage.case().await?;
    let home = stage.operator.home();
    let typed = |command: &'static str, name: &'static str| {
        vec![command, name, "--src", "a", "--dst", "b", "-n", &stage.source, "--dst-namespace", &stage.destination]
    };
    let ended = stage.operator.run(typed("preflight", "wbe")).await?.expect_code(3);
    ensure!(ended.stdout.contains("did you mean `web`?"), "{}", ended.stdout);
    let ended = stage.operator.run([&typed("run", "wbe")[..], &["--yes"]].concat()).await?.expect_code(3);
    ensure!(ended.stderr.contains("did you mean `web`?"), "{}", ended.stderr);
    let ended = stage.operator.run(typed("plan", "wbe")).await?.expect_code(3);
    ensure!(ended.stderr.contains("preflight"), "{}", ended.stderr);
    let wrong = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec: {}\n";
    fs::write(home.join("set.yaml"), wrong)?;
    let ended = stage.operator.run(["run", "-f", "set.yaml", "--yes"]).await?.expect_code(2);
    ensure!(ended.stderr.contains("write `apiVersion: sts-migrate.io/v1alpha1`"), "{}", ended.stderr);
    let mut elsewhere = stage.arguments("preflight", &[]);
    elsewhere[7] = "move-bad-inputs";
    let ended = stage.operator.run(elsewhere).await?.expect_code(3);
    ensure!(ended.stdout.contains(&format!("did you mean `{}`?", stage.source)), "{}", ended.stdout);
    let wrong = format!("{}s", stage.destination);
    let mut elsewhere = stage.arguments("preflight", &[]);
    elsewhere[9] = &wrong;
    let ended = stage.operator.run(elsewhere).await?.expect_code(3);
    ensure!(ended.stdout.contains(&format!("did you mean `{}`?", stage.destination)), "{}", ended.stdout);
    ensure!(writes_of(bed, &stage.tool.user)? == [] as [String; 0], "bad input changed something");

    // From the freeze on the set is not in A any more.
    stage.done("run", &["--until", "freeze"]).await?;
    let before = writes_of(bed, &stage.tool.user)?;
    for (command, code) in [("status", 1), ("run", 3), ("freeze", 3), ("swing", 4), ("finalize", 4), ("rollback", 4)] {
        let mut arguments = typed(command, "wbe");
        arguments.extend((command != "status").then_some("--yes"));
        let ended = stage.operator.run(arguments).await?.expect_code(code);
        ensure!(ended.stderr.contains("of the open migrations: did you mean `web`?"), "{}", ended.stderr);
    }
    ensure!(writes_of(bed, &stage.tool.user)? == before, "a typo changed something");
    stage.done("rollback", &[]).await?;
    stage.end(case.expecting(Expected::RolledBack)).await
}
