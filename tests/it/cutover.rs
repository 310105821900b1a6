//! The cutover, and the operator's commands, on the bed with its load-balancer controller.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bed::judge::Expected;
use bed::workload::{USUAL_CLASS, Workload, snapshot};
use bed::{Bed, Cluster};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::events;
use crate::migration::writes_of;
use crate::stage::{PATIENT, SET, Stage};
use crate::support::{Ended, KillOnDrop, eventually, on_bed};

/// What publishes nothing, and so is created while nothing is down.
const EARLY: [&str; 4] = ["web", "web-internal", "web-balancer", "web-node"];

/// Services that publish, and so wait.
const LATE: [&str; 6] = ["web-dns", "web-dns-new", "web-fixed-name", "web-fixed-address", "web-ip", "web-external-ip"];

/// The Ingress, which waits as all do.
const INGRESS: &str = "web-front";

/// End of a command that hangs the first time, and so is at work when the tool is killed.
const HANG_ONCE: &str = "test -e pid && exit 0\necho $$ > pid\nexec sleep 600\n";

/// A password in the pod template, which is in the plan's before-images.
const PASSWORD: &str = "correct-horse-battery";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("cutover::what_publishes_waits_and_the_command_runs_forward_and_back", publishing),
        on_bed("cutover::a_taken_node_port_blocks_unless_forced", taken_node_port),
        on_bed("cutover::commands_have_the_facts_and_no_secrets_and_run_again_after_a_kill", commands),
        on_bed("cutover::a_command_that_fails_or_hangs_pauses_and_leaves_nothing_running", failing_commands),
        on_bed("cutover::the_sample_commands_run_as_they_stand", samples),
        on_bed("cutover::a_command_given_after_the_cutover_is_run_and_finalize_cuts_over_first", late_command),
    ]
}

impl Stage {
    /// Returns the path of a file in the operator's home, which is where commands run.
    fn file(&self, name: &str) -> PathBuf {
        self.operator.home().join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.file(name)).with_context(|| format!("read {name}"))
    }

    /// Returns the lines of a file that commands write, none as long as there is no file.
    fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    async fn services(&self, cluster: Cluster) -> Result<Vec<Service>> {
        let api: Api<Service> = Api::namespaced(self.client(cluster).clone(), self.namespace(cluster));
        Ok(api.list(&kube::api::ListParams::default()).await?.items)
    }

    async fn service_names(&self, cluster: Cluster) -> Result<Vec<String>> {
        Ok(self.services(cluster).await?.into_iter().filter_map(|service| service.metadata.name).collect())
    }

    async fn has_ingress(&self) -> Result<bool> {
        let api: Api<Ingress> = Api::namespaced(self.b.clone(), &self.destination);
        Ok(api.get_opt(INGRESS).await?.is_some())
    }

    /// Returns the address of a load balancer.
    async fn address(&self, cluster: Cluster, service: &str) -> Result<String> {
        let api: Api<Service> = Api::namespaced(self.client(cluster).clone(), self.namespace(cluster));
        eventually(format!("the address of {service}"), PATIENT, async || {
            let balancer = api.get(service).await?.status.and_then(|status| status.load_balancer);
            let points = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
            Ok(points.into_iter().next().and_then(|point| point.hostname))
        })
        .await
    }

    /// Kills the tool while a command of the operator's is at work, which says so as [`HANG_ONCE`] does.
    async fn killed_in_a_command(&self, subcommand: &str, flags: &[&str]) -> Result<()> {
        let mut command = self.operator.command(self.arguments(subcommand, flags));
        let mut child = KillOnDrop(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        let pid = eventually("the command", PATIENT, async || {
            Ok(self.read("pid").ok().and_then(|text| text.trim().parse::<u32>().ok()))
        })
        .await?;
        child.0.kill()?;
        child.0.wait()?;
        // As its documentation says, a command outlives a tool that is killed; it is not the tool's any more.
        std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        Ok(())
    }

    async fn status(&self) -> Result<Value> {
        let ended = self.run("status", &["-o", "json"]).await?.expect_code(0);
        Ok(serde_json::from_str(&ended.stdout)?)
    }
}

fn annotated(set: Workload, name: &str, spec: Value, annotations: Value) -> Workload {
    let mut whole =
        json!({ "type": "LoadBalancer", "selector": { "app": SET }, "ports": [{ "name": "web", "port": 80 }] });
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    set.object(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "annotations": annotations },
        "spec": whole,
    }))
}

fn dressed(set: Workload) -> Workload {
    let set = set
        .claim("data", "1Gi", USUAL_CLASS)
        .service("web-internal", json!({}))
        .service("web-balancer", json!({ "type": "LoadBalancer" }))
        .service("web-node", json!({ "type": "NodePort" }))
        .service("all", json!({ "selector": null }))
        .object(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": { "name": INGRESS },
            "spec": { "rules": [{ "host": "shop.example.com", "http": { "paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": { "service": { "name": "web-internal", "port": { "number": 80 } } },
            }] } }] },
        }));
    let aws = |name: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{name}");
    let cluster_ip = json!({ "type": "ClusterIP" });
    let dns = json!({ "external-dns.alpha.kubernetes.io/hostname": "a.example.com" });
    let set = annotated(set, "web-dns", cluster_ip.clone(), dns);
    let dns = json!({ "external-dns.kubernetes.io/hostname": "b.example.com" });
    let set = annotated(set, "web-dns-new", json!({}), dns);
    let set = annotated(set, "web-fixed-name", json!({}), json!({ aws("name"): "shop" }));
    let set = annotated(set, "web-fixed-address", json!({}), json!({ aws("eip-allocations"): "eipalloc-1" }));
    let set = annotated(set, "web-ip", json!({ "loadBalancerIP": "192.0.2.1" }), json!({}));
    annotated(set, "web-external-ip", json!({ "type": "ClusterIP", "externalIPs": ["192.0.2.2"] }), json!({}))
}

async fn publishing(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "publishing", dressed).await?;
    for service in ["web-balancer", "web-fixed-name"] {
        stage.address(Cluster::A, service).await?;
    }
    let case = stage.case().await?;
    let before =
        snapshot(&stage.a, &stage.source).await?.only(|name| name.contains("Service") || name.contains("Ingress"));
    ensure!(!before.objects.is_empty(), "there are Services in the snapshot");

    let ended = stage.run("run", &["--yes", "--until", "prepare"]).await?.expect_code(0);
    let names = stage.service_names(Cluster::B).await?;
    ensure!(EARLY.iter().all(|name| names.iter().any(|found| found == name)), "not all early ones: {names:?}");
    ensure!(!LATE.iter().any(|name| names.iter().any(|found| found == name)), "late ones are there: {names:?}");
    ensure!(!names.iter().any(|name| name == "all") && !stage.has_ingress().await?);
    let port = |services: Vec<Service>| {
        let node = services.into_iter().find(|service| service.metadata.name.as_deref() == Some("web-node"));
        node.and_then(|node| node.spec?.ports?.first()?.node_port)
    };
    let ports = (port(stage.services(Cluster::A).await?), port(stage.services(Cluster::B).await?));
    ensure!(ports.0.is_some() && ports.0 == ports.1, "the node port stays: {ports:?}");
    let old = stage.address(Cluster::A, "web-balancer").await?;
    let new = stage.address(Cluster::B, "web-balancer").await?;
    ensure!(ended.stderr.contains(&format!("Service web-balancer: {old} → ")), "{}", ended.stderr);

    fs::write(stage.file("cutover.sh"), "cat > facts.json; echo \"args=$*\" >> calls; echo led; test -e mended\n")?;
    let command = ["--yes", "--cutover-command", "sh ./cutover.sh"];
    let paused = stage.run("run", &command).await?.expect_code(1);
    let said = &paused.stderr;
    ensure!(said.contains("paused: --cutover-command failed: it ended with exit code 1"), "{said}");
    ensure!(said.contains("  | led"), "its output is shown: {said}");
    ensure!(said.contains(&format!("Service web-balancer: {old} → {new}")), "addresses are shown: {said}");
    ensure!(said.contains("--cutover-command 'sh ./cutover.sh'"), "the hint repeats it: {said}");
    let names = stage.service_names(Cluster::B).await?;
    ensure!(LATE.iter().all(|name| names.iter().any(|found| found == name)), "not all late ones: {names:?}");
    ensure!(stage.has_ingress().await?);
    let status = stage.status().await?;
    ensure!(status["status"]["phase"] == "Failed" && status["status"]["lastFailure"]["in"] == "cutover", "{status}");
    let addresses = status["status"]["addresses"].as_array().context("addresses")?;
    ensure!(addresses.iter().any(|it| it["name"] == "web-balancer" && it["destination"][0] == *new), "{status}");

    // Who forgets the command does not cut over, or go back, without it.
    for forgetful in ["run", "finalize", "rollback"] {
        let refused = stage.run(forgetful, &["--yes"]).await?.expect_code(4);
        ensure!(refused.stderr.contains("this run has no --cutover-command"), "{}", refused.stderr);
        ensure!(refused.stderr.contains("`--cutover-command COMMAND`"), "{}", refused.stderr);
    }
    ensure!(stage.status().await?["status"]["direction"] == "Forward");

    // One that hangs is ended, and has not led anybody anywhere.
    let hangs = ["--yes", "--cutover-command", "echo $$ > hung; exec sleep 600", "--command-timeout", "2s"];
    let said = stage.run("run", &hangs).await?.expect_code(1).stderr;
    ensure!(said.contains("paused: --cutover-command failed: it did not end within 2 s"), "{said}");
    let pid = stage.read("hung")?;
    eventually("the command to be gone", PATIENT, async || Ok(is_gone(pid.trim()).then_some(()))).await?;
    ensure!(stage.status().await?["status"]["lastFailure"]["in"] == "cutover");

    fs::write(stage.file("mended"), "")?;
    stage.run("run", &command).await?.expect_code(0);
    ensure!(stage.lines("calls") == ["args=", "args="]);
    let facts: Value = serde_json::from_str(&stage.read("facts.json")?)?;
    ensure!(facts["step"] == "cutover" && facts["direction"] == "forward" && facts["set"] == SET, "{facts}");
    let led = |name: &str| {
        let services = facts["services"].as_array().into_iter().flatten();
        services.filter(|it| it["name"] == name).map(|it| (it["source"].clone(), it["destination"].clone())).next()
    };
    ensure!(led("web-balancer") == Some((json!([old]), json!([new]))), "{facts}");
    let fixed = stage.address(Cluster::B, "web-fixed-name").await?;
    ensure!(led("web-fixed-name").is_some_and(|(_, new)| new == json!([fixed])), "{facts}");
    ensure!(led(INGRESS).is_some_and(|(old, new)| old != json!([]) && new != json!([])), "{facts}");

    // A cutover that is done is not done again.
    stage.run("run", &command).await?.expect_code(0);
    ensure!(stage.lines("calls").len() == 2);
    let after =
        snapshot(&stage.a, &stage.source).await?.only(|name| name.contains("Service") || name.contains("Ingress"));
    ensure!(before.differences(&after) == [] as [String; 0], "{:?}", before.differences(&after));

    // Back it fails, and then is at work when the tool is killed: it is run again, and before that nothing is undone.
    fs::remove_file(stage.file("mended"))?;
    let paused = stage.run("rollback", &command).await?.expect_code(1);
    let said = &paused.stderr;
    ensure!(said.contains("paused: --cutover-command with `back` failed: it ended with exit code 1"), "{said}");
    let again =
        said.lines().find(|line| line.starts_with("hint: to go on: `sts-migrate rollback ")).context("a hint")?;
    ensure!(again.contains("--cutover-command 'sh ./cutover.sh'"), "the hint repeats it: {again}");
    let status = stage.status().await?["status"].clone();
    ensure!(status["direction"] == "Back" && status["phase"] == "Failed", "{status}");
    ensure!(status["lastFailure"]["in"] == "rollback", "{status}");
    ensure!(
        status["next"]["commands"][0].as_str().is_some_and(|it| it.starts_with("sts-migrate rollback ")),
        "{status}"
    );
    ensure!(stage.run("run", &command).await?.expect_code(4).stderr.contains("`sts-migrate rollback "));
    fs::write(stage.file("cutover.sh"), format!("cat > facts.json; echo \"args=$*\" >> calls\n{HANG_ONCE}"))?;
    stage.killed_in_a_command("rollback", &command).await?;
    ensure!(stage.has_ingress().await? && stage.ready_pods(Cluster::B).await? == 1, "nothing is undone before it ends");
    stage.run("rollback", &command).await?.expect_code(0);
    ensure!(stage.lines("calls") == ["args=", "args=", "args=back", "args=back", "args=back"]);
    let facts: Value = serde_json::from_str(&stage.read("facts.json")?)?;
    ensure!(facts["direction"] == "back", "{facts}");
    ensure!(facts["services"].as_array().is_some_and(|all| all.iter().any(|it| it["destination"] == json!([new]))));
    ensure!(stage.service_names(Cluster::B).await? == [] as [String; 0] && !stage.has_ingress().await?);
    stage.end(case.expecting(Expected::RolledBack)).await
}

async fn taken_node_port(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "node-port", |set| {
        set.claim("data", "1Gi", USUAL_CLASS).service("web-node", json!({ "type": "NodePort" }))
    })
    .await?;
    let of = |services: Vec<Service>| services.into_iter().find_map(|it| it.spec?.ports?.first()?.node_port);
    let port = of(stage.services(Cluster::A).await?).context("A chose a node port")?;
    let taker = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "taker", "namespace": "default" },
        "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] },
    });
    bed::workload::apply(&stage.b, taker).await?;
    let case = stage.case().await?;
    let ended = stage.run("preflight", &["-o", "json"]).await?.expect_code(3);
    let findings: Vec<Value> = serde_json::from_str(&ended.stdout)?;
    let found = findings.iter().find(|it| it["code"] == "PF-20").context("a finding")?;
    ensure!(found["level"] == "forceable", "{found}");
    let yaml = stage.run("preflight", &["-o", "yaml"]).await?.expect_code(3);
    ensure!(serde_yaml::from_str::<Vec<Value>>(&yaml.stdout)? == findings, "YAML says another thing: {}", yaml.stdout);
    ensure!(found["what"].as_str().is_some_and(|what| what.contains(&format!("{port} by Service default/taker"))));
    stage.run("run", &["--yes"]).await?.expect_code(3);
    let ended = stage.run("run", &["--yes", "--force"]).await?.expect_code(0);
    ensure!(ended.stderr.contains(&format!("node port {port} is taken in the destination")), "{}", ended.stderr);
    let chosen = of(stage.services(Cluster::B).await?);
    ensure!(chosen.is_some() && chosen != Some(port), "B chose another: {chosen:?}");
    let services: Api<Service> = Api::namespaced(stage.b.clone(), "default");
    services.delete("taker", &kube::api::DeleteParams::default()).await?;
    stage.end(case.expecting(Expected::Moved)).await
}

/// A set with a password in its pod template.
fn with_password(replicas: i32) -> impl FnOnce(Workload) -> Workload {
    move |set| {
        set.replicas(replicas).claim("data", "1Gi", USUAL_CLASS).edit(|set| {
            set["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{ "name": "PASSWORD", "value": PASSWORD }]);
        })
    }
}

async fn commands(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "commands", with_password(2)).await?;
    let case = stage.case().await?;
    let log = "env | grep ^STS_MIGRATE_ >> facts; cat >> facts; \
               echo $STS_MIGRATE_STEP $STS_MIGRATE_POD $STS_MIGRATE_DESTINATION_NAMESPACE >> steps";
    fs::write(stage.file("log.sh"), log)?;
    fs::write(stage.file("cutover.sh"), format!("{log}\n{HANG_ONCE}"))?;
    let flags = [
        "--order",
        "one-by-one",
        "--yes",
        "--before-pod-command",
        "sh ./log.sh",
        "--verify-command",
        "sh ./log.sh",
        "--cutover-command",
        "sh ./cutover.sh",
        "--events",
        "events.jsonl",
    ];
    stage.killed_in_a_command("run", &flags).await?;
    stage.run("run", &flags).await?.expect_code(0);

    // The last ordinal is verified again by the second run: at least once.
    let wanted =
        ["before-pod web-0", "verify web-0", "before-pod web-1", "verify web-1", "cutover", "verify web-1", "cutover"]
            .map(|step| format!("{step} {}", stage.destination));
    ensure!(stage.lines("steps") == wanted, "{:?}", stage.lines("steps"));

    let facts = stage.read("facts")?;
    let json = facts.lines().find(|line| line.starts_with('{')).context("JSON on stdin")?;
    let first: Value = serde_json::from_str(json)?;
    let (claim, volume) = stage.workload.volumes(&stage.a).await?.remove(0);
    ensure!(first["pod"] == "web-0" && first["ordinal"] == 0, "{first}");
    ensure!(first["volumes"][0]["claim"] == *claim && first["volumes"][0]["volume"] == *volume, "{first}");
    ensure!(first["source"] == json!({ "context": "a", "namespace": stage.source }), "{first}");
    for line in ["STS_MIGRATE_ORDINAL=1", "STS_MIGRATE_SET=web", "STS_MIGRATE_SOURCE_CONTEXT=a"] {
        ensure!(facts.lines().any(|found| found == line), "{line} is not in {facts}");
    }
    let token = bed::users::token(&stage.tool.user);
    ensure!(events::ends(&events::documented(&stage.file("events.jsonl"))?) == ["reached"]);
    for (what, text) in [("facts", facts), ("events", stage.read("events.jsonl")?)] {
        for secret in [PASSWORD, &token, "never-verified"] {
            ensure!(!text.contains(secret), "{secret} is in the {what}");
        }
    }
    stage.end(case.expecting(Expected::Moved)).await
}

async fn failing_commands(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "failing", with_password(1)).await?;
    let case = stage.case().await?;
    let pods: Api<Pod> = Api::namespaced(stage.a.clone(), &stage.source);
    let uid = pods.get("web-0").await?.metadata.uid;
    let before = ["--yes", "--before-pod-command", "echo not today >&2; exit 7"];
    let ended = stage.run("run", &before).await?.expect_code(1);
    let said = &ended.stderr;
    ensure!(said.contains("paused: --before-pod-command for ordinal 0 failed: it ended with exit code 7"), "{said}");
    ensure!(said.contains("  | not today"), "{said}");
    ensure!(said.contains("--before-pod-command 'echo not today >&2; exit 7'"), "{said}");
    ensure!(pods.get("web-0").await?.metadata.uid == uid, "the pod runs on");

    let hangs = "echo looking; sleep 600 & echo $! > pid; wait";
    let ended =
        stage.run("run", &["--yes", "--verify-command", hangs, "--command-timeout", "2s"]).await?.expect_code(1);
    let said = &ended.stderr;
    ensure!(said.contains("paused: --verify-command for ordinal 0 failed: it did not end within 2 s"), "{said}");
    ensure!(said.contains("  | looking"), "{said}");
    ensure!(said.contains("pod web-0 in the destination cluster"), "what is left behind: {said}");
    let pid = stage.read("pid")?;
    eventually("what it started to be gone", PATIENT, async || Ok(is_gone(pid.trim()).then_some(()))).await?;
    // It has not passed: nobody goes on without, not to the deleting either.
    let ended = stage.run("run", &["--yes"]).await?.expect_code(4);
    ensure!(ended.stderr.contains("this run has no --verify-command"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("hint: give it again: `sts-migrate run "), "{}", ended.stderr);
    ensure!(ended.stderr.contains(" --verify-command COMMAND`"), "{}", ended.stderr);
    let ended = stage.run("finalize", &["--yes", "--verify-command", "true"]).await?.expect_code(4);
    ensure!(ended.stderr.contains("it is not the turn of finalize"), "{}", ended.stderr);
    let status = stage.status().await?["status"].clone();
    ensure!(
        status["phase"] == "Failed" && status["next"]["what"].as_str().is_some_and(|it| it.contains("verify")),
        "{status}"
    );
    stage.run("run", &["--yes", "--verify-command", "true"]).await?.expect_code(0);
    stage.run("finalize", &["--yes"]).await?.expect_code(0);
    stage.end(case.expecting(Expected::Finalized)).await
}

/// Returns whether a process is gone; one that nobody has waited for yet is.
fn is_gone(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
}

async fn late_command(bed: &'static Bed) -> Result<()> {
    let stage = Stage::new(bed, "late", |set| {
        annotated(
            with_password(1)(set),
            "web-fixed-name",
            json!({}),
            json!({
                "service.beta.kubernetes.io/aws-load-balancer-name": "shop",
            }),
        )
    })
    .await?;
    let case = stage.case().await?;
    stage.run("run", &["--yes", "--until", "swing"]).await?.expect_code(0);
    ensure!(!stage.service_names(Cluster::B).await?.iter().any(|name| name == "web-fixed-name"));
    stage.run("run", &["--yes"]).await?.expect_code(0);
    ensure!(stage.service_names(Cluster::B).await?.iter().any(|name| name == "web-fixed-name"));
    stage.run("run", &["--yes", "--cutover-command", "echo $STS_MIGRATE_DIRECTION >> calls"]).await?.expect_code(0);
    ensure!(stage.lines("calls") == ["forward"], "a command that is given later is run");
    let ended: Ended = stage.run("finalize", &["--yes"]).await?.expect_code(0);
    let address = stage.address(Cluster::B, "web-fixed-name").await?;
    ensure!(ended.stderr.contains(&format!("→ {address}")), "{}", ended.stderr);
    ensure!(writes_of(bed, &stage.tool.user)?.iter().all(|write| !write.contains("delete services")));
    stage.end(case.expecting(Expected::Finalized)).await
}

/// A `kubectl` that writes down what it was asked, and answers as `psql` in a pod would: the bed's pods
/// have no containers. What is counted in a cluster is in the file `rows-CONTEXT`.
const KUBECTL: &str = r#"#!/bin/sh
printf '%s\n' "$*" | tr -s '\n ' ' ' >> "$HOME/kubectl.log"; echo >> "$HOME/kubectl.log"
case "$*" in
*CHECKPOINT*) echo CHECKPOINT ;;
*pg_stat_user_tables*) cat "$HOME/rows-$2" ;;
*) exit 64 ;;
esac
"#;

/// An `aws` that writes down what it was asked, and answers with the id of a change.
const AWS: &str = r#"#!/bin/sh
printf '%s\n' "$*" | tr -s '\n ' ' ' >> "$HOME/aws.log"; echo >> "$HOME/aws.log"
case "$*" in
*change-resource-record-sets*) echo /change/C1 ;;
*wait*) ;;
*) exit 64 ;;
esac
"#;

/// The samples run by the shipped binary as they lie under `examples/`, with stand-ins for `kubectl` and
/// `aws` only: there is no database in the bed, and no Route 53.
async fn samples(bed: &'static Bed) -> Result<()> {
    let mut stage = Stage::new(bed, "samples", |set| {
        set.claim("data", "1Gi", USUAL_CLASS).service("web-balancer", json!({ "type": "LoadBalancer" }))
    })
    .await?;
    let old = stage.address(Cluster::A, "web-balancer").await?;
    let case = stage.case().await?;
    let programs = stage.file("programs");
    fs::create_dir(&programs)?;
    for (name, text) in [("kubectl", KUBECTL), ("aws", AWS)] {
        fs::write(programs.join(name), text)?;
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755))?;
    }
    stage.operator.set("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    for (name, value) in [("HOSTED_ZONE", "Z1"), ("RECORD", "shop.example.com"), ("SERVICE", "Service/web-balancer")] {
        stage.operator.set(name, value);
    }
    let sample = |name: &str| format!("{}/examples/commands/{name}.sh", env!("CARGO_MANIFEST_DIR"));
    let before = format!("{} && {}", sample("checkpoint"), sample("row-count"));
    let (verify, cutover) = (sample("row-count"), sample("dns-change"));
    let flags = ["--yes", "--before-pod-command", &before, "--verify-command", &verify, "--cutover-command", &cutover];

    fs::write(stage.file("rows-a"), "public.orders 120\npublic.users 7\n")?;
    fs::write(stage.file("rows-b"), "public.users 7\n")?;
    let ended = stage.run("run", &flags).await?.expect_code(1);
    ensure!(ended.stderr.contains("  | CHECKPOINT"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("  | web-0: 2 tables counted"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("  | web-0: public.orders had 120 rows and has none"), "{}", ended.stderr);
    fs::write(stage.file("rows-b"), "public.orders 121\npublic.users 7\n")?;
    let ended = stage.run("run", &flags).await?.expect_code(0);
    ensure!(ended.stderr.contains("  | web-0: no rows are missing"), "{}", ended.stderr);
    let new = stage.address(Cluster::B, "web-balancer").await?;
    ensure!(ended.stderr.contains(&format!("  | shop.example.com leads to {new}")), "{}", ended.stderr);
    let ended = stage.run("rollback", &flags).await?.expect_code(0);
    ensure!(ended.stderr.contains(&format!("  | shop.example.com leads to {old}")), "{}", ended.stderr);

    let asked = stage.lines("kubectl.log");
    let at = |context: &str, namespace: &str| format!("--context {context} -n {namespace} exec web-0 -- psql ");
    let (source, destination) = (at("a", &stage.source), at("b", &stage.destination));
    ensure!(asked.len() == 4 && asked.iter().take(2).all(|it| it.starts_with(&source)), "{asked:?}");
    ensure!(asked.iter().skip(2).all(|it| it.starts_with(&destination)), "{asked:?}");
    let asked = stage.lines("aws.log");
    let changes: Vec<Value> = asked
        .iter()
        .filter_map(|line| Some(line.split_once("--change-batch ")?.1))
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let led: Vec<&Value> = changes
        .iter()
        .map(|change| &change["Changes"][0]["ResourceRecordSet"]["ResourceRecords"][0]["Value"])
        .collect();
    ensure!(led == [&json!(new), &json!(old)] && asked.iter().all(|it| it.starts_with("route53 ")), "{asked:?}");
    stage.end(case.expecting(Expected::RolledBack)).await
}
