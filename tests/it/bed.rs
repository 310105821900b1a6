//! The bed itself: what it is made of, and that nothing of it is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bed::ec2::VolumeState;
use bed::workload::{self, Workload};
use bed::{Act, Bed, BedOptions, Cluster, Component, users};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{KillOnDrop, alone, eventually, holder, on_bed, own_bed, start_bed};

/// How long processes may take to be gone after their bed has ended.
const GONE: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_bed("bed::the_clusters_are_two", the_clusters_are_two),
        on_bed("bed::nodes_are_ready_in_two_zones", nodes_are_ready_in_two_zones),
        on_bed("bed::a_set_gets_volumes_and_becomes_ready", a_set_gets_volumes_and_becomes_ready),
        on_bed("bed::kubectl_works_with_a_kubeconfig", kubectl_works_with_a_kubeconfig),
        on_bed("bed::a_restricted_user_has_the_rights_of_its_rules", a_restricted_user_has_the_rights_of_its_rules),
        on_bed("bed::the_audit_log_has_the_body_of_a_delete", the_audit_log_has_the_body_of_a_delete),
        alone("bed::two_beds_run_side_by_side", two_beds_run_side_by_side),
        alone("bed::a_component_is_stopped_and_restarted", a_component_is_stopped_and_restarted),
        alone("bed::it_dies_with_a_killed_parent", it_dies_with_a_killed_parent),
        alone("bed::it_dies_with_a_killed_supervisor", it_dies_with_a_killed_supervisor),
        alone("bed::a_failed_start_shows_the_guilty_log", a_failed_start_shows_the_guilty_log),
        alone("bed::without_go_it_says_what_to_install", without_go_it_says_what_to_install),
        alone("bed::with_an_old_go_it_says_what_to_install", with_an_old_go_it_says_what_to_install),
        alone("bed::without_a_network_it_says_so", without_a_network_it_says_so),
        alone("bed::ready_binaries_that_are_missing_are_named", ready_binaries_that_are_missing_are_named),
    ]
}

async fn system_uid(bed: &Bed, cluster: Cluster) -> Result<String> {
    let namespaces = Api::<Namespace>::all(bed.client(cluster, users::ADMIN).await?);
    namespaces.get("kube-system").await?.metadata.uid.context("kube-system has a uid")
}

async fn the_clusters_are_two(bed: &'static Bed) -> Result<()> {
    assert_ne!(system_uid(bed, Cluster::A).await?, system_uid(bed, Cluster::B).await?);
    for cluster in Cluster::BOTH {
        let version = bed.client(cluster, users::ADMIN).await?.apiserver_version().await?;
        assert_eq!(version.git_version, "v1.37.2");
    }
    Ok(())
}

async fn nodes_are_ready_in_two_zones(bed: &'static Bed) -> Result<()> {
    let mut instances = BTreeSet::new();
    for cluster in Cluster::BOTH {
        let nodes = Api::<Node>::all(bed.client(cluster, users::ADMIN).await?).list(&ListParams::default()).await?;
        let mut zones = BTreeMap::<String, u32>::new();
        // Other tests may have added nodes of their own, under other names.
        let prefix = format!("node-{}-1", cluster.name());
        for node in nodes.items.into_iter().filter(|node| node.name_any().starts_with(&prefix)) {
            let conditions = node.status.clone().unwrap_or_default().conditions.unwrap_or_default();
            assert!(conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
            let zone = node.labels().get("topology.kubernetes.io/zone").cloned().context("a node has a zone")?;
            let provider_id = node.spec.unwrap_or_default().provider_id.unwrap_or_default();
            let instance = provider_id.strip_prefix(&format!("aws:///{zone}/")).context("a node has a provider id")?;
            instances.insert(instance.to_owned());
            *zones.entry(zone).or_default() += 1;
        }
        assert!(zones["eu-west-1a"] >= 2 && zones["eu-west-1b"] >= 2, "{zones:?}");
    }
    assert!(instances.len() >= 8, "{instances:?}");
    Ok(())
}

async fn a_set_gets_volumes_and_becomes_ready(bed: &'static Bed) -> Result<()> {
    let client = bed.client(Cluster::A, users::ADMIN).await?;
    workload::namespace(&client, "bed-set").await?;
    let set = Workload::new("bed-set", "web").replicas(2).claim("data", "1Gi", "gp3");
    set.apply(&client).await?;
    set.wait_ready(&client).await?;
    let volumes = set.volumes(&client).await?;
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    let nodes = bed.nodes().nodes().await?;
    for (claim, volume) in volumes {
        let in_ec2 = bed.ec2().volume(&volume).await?;
        assert_eq!(in_ec2.state, VolumeState::InUse, "{claim}");
        // Who wrote on it is the pod of the claim, on a node of A in the volume's zone.
        let history = bed.ec2().history(&volume).await?;
        assert_eq!(history.len(), 1, "{history:?}");
        assert_eq!((history[0].claim.as_str(), history[0].cluster, history[0].found), (claim.as_str(), Cluster::A, 0));
        let node = nodes.iter().find(|node| node.instance == history[0].instance).context("the node is known")?;
        assert_eq!((node.cluster, &node.zone), (Cluster::A, &in_ec2.zone));
    }
    Ok(())
}

async fn kubectl_works_with_a_kubeconfig(bed: &'static Bed) -> Result<()> {
    let home = tempfile::tempdir()?;
    let output = tokio::process::Command::new(bed.kubectl())
        .args(["--context", "b", "get", "storageclasses", "-o", "name"])
        .env_clear()
        .env("HOME", home.path())
        .env("KUBECONFIG", bed.kubeconfig(&bed.take_tool().user)?)
        .output()
        .await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    assert_eq!(names, "storageclass.storage.k8s.io/gp3\nstorageclass.storage.k8s.io/gp3-retain\n");
    Ok(())
}

async fn a_restricted_user_has_the_rights_of_its_rules(bed: &'static Bed) -> Result<()> {
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["namespaces".into()]),
        verbs: vec!["list".into()],
        ..PolicyRule::default()
    };
    let user = bed.restricted(Cluster::A, vec![rule]).await?;
    let in_a = bed.client(Cluster::A, &user).await?;
    // Rights made a moment ago reach the authorizer by a watch.
    eventually("the right to list namespaces", GONE, async || {
        Ok(Some(Api::<Namespace>::all(in_a.clone()).list(&ListParams::default()).await?))
    })
    .await?;
    assert_eq!(refusal(&in_a).await, Some(403));
    let in_b = bed.client(Cluster::B, &user).await?;
    let listed = Api::<Namespace>::all(in_b).list(&ListParams::default()).await;
    assert!(matches!(listed, Err(kube::Error::Api(status)) if status.code == 403));
    Ok(())
}

/// Returns the code with which listing ConfigMaps is refused.
async fn refusal(client: &Client) -> Option<u16> {
    match Api::<ConfigMap>::all(client.clone()).list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

async fn the_audit_log_has_the_body_of_a_delete(bed: &'static Bed) -> Result<()> {
    let tool = bed.take_tool();
    let mark = bed.audit_mark(Cluster::B)?;
    let maps = Api::<ConfigMap>::namespaced(bed.client(Cluster::B, &tool.user).await?, "default");
    let map: ConfigMap =
        serde_json::from_value(json!({ "metadata": { "name": "audited" }, "data": { "key": "value" } }))?;
    let uid = maps.create(&PostParams::default(), &map).await?.metadata.uid.context("a created object has a uid")?;
    maps.get("audited").await?;
    let preconditions = Preconditions { uid: Some(uid.clone()), ..Preconditions::default() };
    maps.delete("audited", &DeleteParams::default().preconditions(preconditions)).await?;

    let events = bed.audit_since(Cluster::B, mark)?;
    let of_tool: Vec<&Value> = events.iter().filter(|event| event["user"]["username"] == tool.user.as_str()).collect();
    let seen: Vec<(&str, &Value)> =
        of_tool.iter().map(|event| (event["verb"].as_str().unwrap_or_default(), &event["requestObject"])).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!((seen[0].0, &seen[0].1["data"]["key"]), ("create", &json!("value")));
    assert_eq!(seen[1], ("get", &Value::Null));
    assert_eq!((seen[2].0, &seen[2].1["preconditions"]["uid"]), ("delete", &json!(uid)));
    Ok(())
}

async fn two_beds_run_side_by_side() -> Result<()> {
    let (one, two) = tokio::try_join!(own_bed(BedOptions::default()), start_bed(BedOptions::default()))?;
    let mut uids = BTreeSet::new();
    for bed in [&*one, &two] {
        for cluster in Cluster::BOTH {
            uids.insert(system_uid(bed, cluster).await?);
        }
    }
    assert_eq!(uids.len(), 4);
    one.end();
    assert!(!one.directory().exists());
    assert_eq!(processes_of(one.directory())?, Vec::<String>::new());
    // The other one is still there.
    system_uid(&two, Cluster::B).await?;
    Ok(())
}

async fn a_component_is_stopped_and_restarted() -> Result<()> {
    let bed = own_bed(BedOptions::default()).await?;
    let client = bed.client(Cluster::A, users::ADMIN).await?;
    let namespaces = Api::<Namespace>::all(client.clone());
    let namespace = |name: &str| serde_json::from_value::<Namespace>(json!({ "metadata": { "name": name } }));
    let accounts = |name: &str| Api::<ServiceAccount>::namespaced(client.clone(), name);

    bed.signal(Cluster::A, Component::KubeControllerManager, Act::Stop).await?;
    namespaces.create(&PostParams::default(), &namespace("halted")?).await?;
    bed.signal(Cluster::A, Component::KubeControllerManager, Act::Continue).await?;
    eventually("the controllers to go on", GONE, async || Ok(accounts("halted").get_opt("default").await?)).await?;

    bed.signal(Cluster::A, Component::KubeApiserver, Act::Kill).await?;
    ensure!(namespaces.get("default").await.is_err(), "a killed API server answers");
    bed.signal(Cluster::A, Component::KubeApiserver, Act::Start).await?;
    eventually("the API server at its old place", Duration::from_secs(60), async || {
        Ok(Some(namespaces.get("halted").await?))
    })
    .await?;
    // The other cluster has noticed nothing.
    system_uid(&bed, Cluster::B).await?;
    Ok(())
}

/// Starts a bed in a process of its own and returns that process with the bed's directory.
async fn held_bed() -> Result<(KillOnDrop, PathBuf)> {
    let mut parent = KillOnDrop(holder().spawn()?);
    let stdout = parent.0.stdout.take().context("stdout is a pipe")?;
    let line = tokio::task::spawn_blocking(|| -> Result<String> {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line)
    });
    let directory = PathBuf::from(line.await??.trim());
    ensure!(directory.is_dir(), "the bed has no directory: {}", directory.display());
    let processes = processes_of(&directory)?;
    // Its supervisor and six real processes in each cluster.
    ensure!(processes.len() == 13, "not the processes that there must be: {processes:?}");
    Ok((parent, directory))
}

async fn it_dies_with_a_killed_parent() -> Result<()> {
    let (mut parent, directory) = held_bed().await?;
    parent.0.kill()?;
    eventually("no process of the bed and no directory", GONE, async || {
        let left = processes_of(&directory)?;
        ensure!(left.is_empty(), "left: {left:?}");
        ensure!(!directory.exists(), "left: {}", directory.display());
        Ok(Some(()))
    })
    .await
}

async fn it_dies_with_a_killed_supervisor() -> Result<()> {
    let (mut parent, directory) = held_bed().await?;
    let supervisor = process_ids()
        .find(|&id| {
            command_line(id)
                .is_some_and(|line| line.contains("__bed-supervisor") && line.contains(&*directory.to_string_lossy()))
        })
        .and_then(Pid::from_raw)
        .context("the bed has a supervisor")?;
    kill_process(supervisor, Signal::KILL)?;
    eventually("no process of the bed", GONE, async || {
        let left = processes_of(&directory)?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(Some(()))
    })
    .await?;
    // Its parent cleans up when it ends.
    drop(parent.0.stdin.take());
    assert!(tokio::task::spawn_blocking(move || parent.0.wait()).await??.success());
    assert!(!directory.exists());
    Ok(())
}

async fn a_failed_start_shows_the_guilty_log() -> Result<()> {
    let real = bed::toolchain::Binaries::find_or_build()?;
    let error = said(|command, place| {
        for entry in fs::read_dir(real.directory())? {
            let entry = entry?;
            symlink(entry.path(), place.join(entry.file_name()))?;
        }
        let broken = place.join("kube-apiserver");
        fs::remove_file(&broken)?;
        fs::write(&broken, "#!/bin/sh\necho the disk of etcd is on fire >&2\nexit 3\n")?;
        fs::set_permissions(&broken, fs::Permissions::from_mode(0o755))?;
        command.env(bed::toolchain::READY_BINARIES, place);
        Ok(())
    })
    .await?;
    assert!(error.contains("kube-apiserver ended by itself; its log ends with:"), "{error}");
    assert!(error.contains("the disk of etcd is on fire"), "{error}");
    Ok(())
}

/// Returns the command lines of all processes that name a directory.
fn processes_of(directory: &Path) -> Result<Vec<String>> {
    let directory = directory.to_str().context("a temporary directory is UTF-8")?;
    Ok(process_ids().filter_map(command_line).filter(|line| line.contains(directory)).collect())
}

fn process_ids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn command_line(id: i32) -> Option<String> {
    // It may have ended meanwhile.
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&line).replace('\0', " "))
}

/// Runs a holder that must fail, with an empty cache, and returns its error, which is one line.
async fn refused(change: impl FnOnce(&mut Command, &Path) -> Result<()>) -> Result<String> {
    let error = said(change).await?;
    assert_eq!(error.lines().count(), 1, "{error}");
    Ok(error)
}

/// Runs a holder that must fail, with an empty cache, and returns its error.
async fn said(change: impl FnOnce(&mut Command, &Path) -> Result<()>) -> Result<String> {
    let place = tempfile::tempdir()?;
    let mut command = holder();
    command.env_remove(bed::toolchain::READY_BINARIES).env("XDG_CACHE_HOME", place.path().join("cache"));
    change(&mut command, place.path())?;
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr)?;
    let (_, error) = stderr.split_once("error: ").context("no error")?;
    Ok(error.trim_end().to_owned())
}

async fn without_go_it_says_what_to_install() -> Result<()> {
    let error = refused(|command, _| {
        command.env("PATH", "/nowhere");
        Ok(())
    })
    .await?;
    assert_eq!(
        error,
        "the bed is built with Go 1.26.0 or newer and there is no `go` in PATH: \
         install it from https://go.dev/dl/ or set STS_MIGRATE_BED_BIN to a directory with ready binaries"
    );
    Ok(())
}

async fn with_an_old_go_it_says_what_to_install() -> Result<()> {
    let error = refused(|command, place| {
        let go = place.join("go");
        fs::write(&go, "#!/bin/sh\necho go1.21.13\n")?;
        fs::set_permissions(&go, fs::Permissions::from_mode(0o755))?;
        command.env("PATH", place);
        Ok(())
    })
    .await?;
    assert!(
        error.starts_with("the bed is built with Go 1.26.0 or newer and the `go` in PATH is 1.21.13: install it"),
        "{error}"
    );
    Ok(())
}

async fn without_a_network_it_says_so() -> Result<()> {
    let error = refused(|command, place| {
        // A port where nobody listens stands for a network that is not there.
        command.env("GOPROXY", "http://127.0.0.1:9").env("GOSUMDB", "off");
        command.env("GOMODCACHE", place.join("modules")).env("GOCACHE", place.join("compiled"));
        Ok(())
    })
    .await?;
    assert!(
        error.starts_with("the bed needs the network once, to download Go modules, and cannot reach it ("),
        "{error}"
    );
    assert!(error.ends_with("or set STS_MIGRATE_BED_BIN to a directory with ready binaries"), "{error}");
    Ok(())
}

async fn ready_binaries_that_are_missing_are_named() -> Result<()> {
    let error = refused(|command, place| {
        command.env(bed::toolchain::READY_BINARIES, place);
        Ok(())
    })
    .await?;
    assert!(error.contains("(STS_MIGRATE_BED_BIN) has no etcd, kube-apiserver, kube-controller-manager"), "{error}");
    Ok(())
}
