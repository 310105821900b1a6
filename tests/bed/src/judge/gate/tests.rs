//! Tests of I-6 and I-8.

use serde_json::{Value, json};

use super::*;
use crate::judge::made::{Made, TOOL};

/// Pod 0 of A is deleted and gone at 12, its VolumeAttachment at 14.
fn let_go() -> Made {
    let mut made = Made::new();
    made.change(1, "vol-0", "in-use", &["i-a"]);
    made.attachment(2, Cluster::A, "va-0", "pv-0");
    made.set_in_b(5, 0);
    made.delete(10, Cluster::A, "pods", "a-space", "web-0");
    made.write(12, "node-agent", Cluster::A, "delete", "pods", "a-space", "web-0", Value::Null);
    made.forget(Cluster::A, "pods", "web-0");
    made.write(13, "kcm", Cluster::A, "delete", "volumeattachments", "", "va-0", Value::Null);
    let body = json!({"metadata": {"finalizers": null}});
    made.write(14, "csi-attacher", Cluster::A, "patch", "volumeattachments", "", "va-0", body);
    made.change(13, "vol-0", "available", &[]);
    made
}

/// Pod 0 was seen gone, and that nobody else uses its volume.
fn looked() -> Made {
    let mut made = let_go();
    made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
    made.read(14, Cluster::A, "list", "pods", "a-space", "", 200);
    made.read(14, Cluster::B, "list", "pods", "b-space", "", 200);
    made.read(15, Cluster::A, "list", "nodes", "", "", 200);
    made
}

#[test]
fn i6_accepts_the_whole_gate() {
    let mut made = looked();
    made.read(16, Cluster::A, "list", "volumeattachments", "", "", 200);
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "available", &[]);
    made.scale_b(20, 1);
    made.accepts(i6_gate_before_a_pod_may_start);
}

#[test]
fn i6_needs_no_gate_for_a_volume_that_is_home() {
    let mut made = let_go();
    made.change(16, "vol-0", "in-use", &["i-b"]);
    made.scale_b(20, 1);
    made.accepts(i6_gate_before_a_pod_may_start);
}

#[test]
fn i6_sees_each_part_of_the_gate_that_is_missing() {
    let mut made = let_go();
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 was seen gone");

    let mut made = let_go();
    made.scale_b(11, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 still exists in a");

    let mut made = let_go();
    made.read(13, Cluster::A, "get", "pods", "a-space", "web-0", 404);
    made.read(14, Cluster::A, "list", "pods", "a-space", "", 200);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "the pods of b were looked at");
    made.read(14, Cluster::B, "list", "pods", "b-space", "", 200);
    made.rejects(i6_gate_before_a_pod_may_start, "the nodes of a were looked at");

    let mut made = looked();
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");

    // The list came too early: the nodes were not looked at yet.
    let mut made = looked();
    made.read(14, Cluster::A, "list", "volumeattachments", "", "", 200);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");
}

#[test]
fn i6_sees_reads_of_ec2_that_prove_nothing() {
    let gone = || {
        let mut made = looked();
        made.read(16, Cluster::A, "list", "volumeattachments", "", "", 200);
        made
    };
    let mut made = gone();
    made.described(13, "vol-0", "available", &[]);
    made.described(14, "vol-0", "available", &[]);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 0 times");
    let mut made = gone();
    made.described(17, "vol-0", "available", &[]);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 1 times");
    let mut made = gone();
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "in-use", &["i-a"]);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "twice in a row");
}

/// Claim `data-web-0` moves without a pod: pod `shell` of A used it, and let it go as in [`let_go`].
fn alone() -> Made {
    let mut made = let_go();
    (made.case.alone, made.case.replicas, made.case.set) = (true, 0, "data-web-0".to_owned());
    made.case.volumes.retain(|volume| volume.ordinal == 0);
    let claim = json!({"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]}});
    made.write(3, "admin", Cluster::A, "create", "pods", "a-space", "shell", claim);
    made.write(12, "node-agent", Cluster::A, "delete", "pods", "a-space", "shell", Value::Null);
    made
}

fn looked_alone(made: &mut Made) {
    made.read(13, Cluster::A, "list", "pods", "a-space", "", 200);
    made.read(13, Cluster::B, "list", "pods", "b-space", "", 200);
    made.read(14, Cluster::A, "list", "nodes", "", "", 200);
    made.read(15, Cluster::A, "list", "volumeattachments", "", "", 200);
}

fn claim_in_b(made: &mut Made, at: i64) {
    let body = json!({"metadata": {"name": "data-web-0"}});
    made.write(at, TOOL, Cluster::B, "create", "persistentvolumeclaims", "b-space", "data-web-0", body);
}

#[test]
fn i6_wants_the_gate_before_a_claim_without_a_pod_is_made() {
    let mut made = alone();
    looked_alone(&mut made);
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "available", &[]);
    claim_in_b(&mut made, 20);
    made.accepts(i6_gate_before_a_pod_may_start);

    let mut made = alone();
    claim_in_b(&mut made, 20);
    made.rejects(i6_gate_before_a_pod_may_start, "the pods of a were looked at");
    let mut made = alone();
    claim_in_b(&mut made, 11);
    made.rejects(i6_gate_before_a_pod_may_start, "pod shell in a uses its claim");
    let mut made = alone();
    looked_alone(&mut made);
    made.described(17, "vol-0", "available", &[]);
    claim_in_b(&mut made, 20);
    made.rejects(i6_gate_before_a_pod_may_start, "EC2 was asked 1 times");
}

#[test]
fn i6_wants_the_gate_before_a_claim_without_a_pod_goes_back() {
    let mut made = alone();
    made.change(20, "vol-0", "in-use", &["i-b"]);
    made.change(30, "vol-0", "available", &[]);
    made.delete(40, Cluster::B, "persistentvolumeclaims", "b-space", "data-web-0");
    made.rejects(i6_gate_before_a_pod_may_start, "the pods of a were looked at");
}

#[test]
fn i6_accepts_no_cached_list() {
    let mut made = looked();
    let list = made.read(16, Cluster::A, "list", "volumeattachments", "", "", 200);
    list.query.insert("resourceVersion".to_owned(), "0".to_owned());
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "available", &[]);
    made.scale_b(20, 1);
    made.rejects(i6_gate_before_a_pod_may_start, "VolumeAttachment was seen gone");
}

/// Everything was looked at, after what is said to be in the way.
fn looked_with(in_the_way: impl FnOnce(&mut Made)) -> Made {
    let mut made = looked();
    in_the_way(&mut made);
    made.read(16, Cluster::A, "list", "volumeattachments", "", "", 200);
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "available", &[]);
    made.scale_b(20, 1);
    made
}

#[test]
fn i6_sees_another_pod_on_the_claim_until_it_has_ended() {
    let pod = json!({"spec": {"volumes": [{"persistentVolumeClaim": {"claimName": "data-web-0"}}]}});
    for cluster in Cluster::BOTH {
        let namespace = format!("{}-space", cluster.name());
        let backup = |made: &mut Made| {
            made.write(3, "kcm", cluster, "create", "pods", &namespace, "backup", pod.clone());
        };
        let made = looked_with(backup);
        made.rejects(i6_gate_before_a_pod_may_start, &format!("pod backup in {} uses its claim", cluster.name()));
        let made = looked_with(|made| {
            backup(made);
            let status = json!({"status": {"phase": "Succeeded"}});
            made.write(13, "node-agent", cluster, "patch", "pods", &namespace, "backup", status);
        });
        made.accepts(i6_gate_before_a_pod_may_start);
    }
}

#[test]
fn i6_sees_a_node_that_reports_the_volume_in_use() {
    let report = |made: &mut Made, at: i64, volumes: &[&str]| {
        let status = json!({"status": {"volumesInUse": volumes}});
        made.write(at, "node-agent", Cluster::A, "patch", "nodes", "", "node-a", status);
    };
    let used = "kubernetes.io/csi/ebs.csi.aws.com^vol-0";
    let mut made = looked_with(|made| report(made, 3, &[used]));
    made.rejects(i6_gate_before_a_pod_may_start, "node node-a in a reports it in use");
    made.case.excused_nodes.insert("node-a".to_owned());
    made.accepts(i6_gate_before_a_pod_may_start);
    let made = looked_with(|made| {
        report(made, 3, &[used]);
        report(made, 13, &[]);
    });
    made.accepts(i6_gate_before_a_pod_may_start);
    // It was gone only after the look.
    let made = looked_with(|made| {
        report(made, 3, &[used]);
        report(made, 19, &[]);
    });
    made.rejects(i6_gate_before_a_pod_may_start, "the nodes of a were looked at");
}

#[test]
fn i6_sees_more_replicas_than_were_handed_over() {
    let mut made = looked();
    made.change(1, "vol-1", "in-use", &["i-a"]);
    made.read(16, Cluster::A, "list", "volumeattachments", "", "", 200);
    made.described(17, "vol-0", "available", &[]);
    made.described(18, "vol-0", "available", &[]);
    made.scale_b(20, 2);
    made.rejects(i6_gate_before_a_pod_may_start, "pod web-1 may start on vol-1");
    let mut made = Made::new();
    made.set_in_b(5, 0);
    made.scale_b(20, 3);
    made.rejects(i6_gate_before_a_pod_may_start, "3 replicas in b");
}

#[test]
fn i6_judges_the_way_back() {
    let mut made = Made::new();
    made.change(1, "vol-0", "in-use", &["i-b"]);
    made.write(20, TOOL, Cluster::A, "create", "statefulsets", "a-space", "web", json!({"spec": {"replicas": 2}}));
    made.rejects(i6_gate_before_a_pod_may_start, "pod web-0 may start on vol-0");
}

/// Frozen, retained, paired: pod 0 may go.
fn frozen() -> Made {
    let mut made = Made::new();
    made.retain_all(1);
    made.pair_in_b(2, 0);
    made.pair_in_b(2, 1);
    made.set_in_b(5, 0);
    made.delete(6, Cluster::A, "statefulsets", "a-space", "web");
    made.forget(Cluster::A, "statefulsets", "web");
    for cluster in Cluster::BOTH {
        lease(&mut made, 0, cluster, TOOL);
    }
    made
}

fn lease(made: &mut Made, at: i64, cluster: Cluster, holder: &str) {
    let namespace = format!("{}-space", cluster.name());
    let body = json!({"spec": {"holderIdentity": holder}});
    made.write(at, TOOL, cluster, "update", "leases", &namespace, "sts-migrate-set-web", body);
}

#[test]
fn i8_accepts_a_delete_when_all_is_ready_for_it() {
    let mut made = frozen();
    made.delete(10, Cluster::A, "pods", "a-space", "web-0");
    made.scale_b(12, 1);
    let status = json!({"status": {"availableReplicas": 1}});
    let event = made.write(13, "kcm", Cluster::B, "update", "statefulsets", "b-space", "web", status);
    event.subresource = "status".to_owned();
    made.delete(14, Cluster::A, "pods", "a-space", "web-1");
    made.accepts(i8_conditions_of_each_pod_delete);
}

#[test]
fn i8_sees_each_condition_that_is_missing() {
    let mut made = frozen();
    made.delete(14, Cluster::A, "pods", "a-space", "web-1");
    made.rejects(i8_conditions_of_each_pod_delete, "0 of 1 lower ordinals");
    let mut made = frozen();
    made.delete(4, Cluster::A, "pods", "a-space", "web-0");
    made.rejects(i8_conditions_of_each_pod_delete, "the set still exists in a");
    let mut made = frozen();
    lease(&mut made, 9, Cluster::B, "");
    made.delete(10, Cluster::A, "pods", "a-space", "web-0");
    made.rejects(i8_conditions_of_each_pod_delete, "the lock in b is not held");
    let mut made = frozen();
    made.scale_b(7, 1);
    made.delete(10, Cluster::B, "pods", "b-space", "web-0");
    made.rejects(i8_conditions_of_each_pod_delete, "the set in b has 1 replicas");
    let mut made = Made::new();
    made.delete(10, Cluster::A, "pods", "a-space", "web-0");
    made.rejects(i8_conditions_of_each_pod_delete, "pv-0 in a is not Retain");
}
