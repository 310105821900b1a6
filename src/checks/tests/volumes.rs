//! PF-22 to PF-25: what EC2 says.

use super::{Bench, forbidden};
use crate::checks::Level;
use crate::fixtures;
use crate::world::{AttachmentState, Ec2Volume, Kind, Side, VolumeState};

#[test]
fn a_volume_that_ec2_does_not_know_or_show_blocks() {
    let mut bench = Bench::fine();
    let id = bench.volume_id("data-web-1");
    bench.answer(&id, Ok(None));
    let finding = bench.one("PF-24", Level::Blocks);
    assert!(finding.what.contains("another account, or another region"), "{finding:?}");
    bench.answer(&id, Err(forbidden()));
    assert!(bench.one("PF-24", Level::Blocks).remedy.contains("ec2:DescribeVolumes"));
    bench.world.volumes.remove(&id);
    bench.one("PF-24", Level::Blocks);
}

#[test]
fn volumes_that_ec2_does_not_show_for_one_reason_are_one_finding() {
    let mut bench = Bench::fine();
    let ids = ["data-web-1", "data-web-2"].map(|claim| bench.volume_id(claim));
    for id in &ids {
        bench.answer(id, Ok(None));
    }
    assert_eq!(bench.one("PF-24", Level::Blocks).subject, format!("volumes {}, {}", ids[0], ids[1]));
    bench.answer(&ids[0], Err(forbidden()));
    let unread = bench.findings().into_iter().filter(|finding| finding.code == "PF-24");
    let subjects: Vec<String> = unread.map(|finding| finding.subject).collect();
    assert_eq!(subjects, [0, 1].map(|at| format!("volume {} (PersistentVolumeClaim data-web-{})", ids[at], at + 1)));
}

#[test]
fn a_volume_on_a_foreign_instance_blocks() {
    let mut bench = Bench::fine();
    bench.ec2("data-web-1", |volume| volume.attachments[0].instance = "i-0123456789abcdef0".into());
    let findings = bench.findings();
    assert!(findings.iter().any(|finding| finding.code == "PF-22" && finding.level == Level::Blocks), "{findings:#?}");
}

#[test]
fn a_zone_without_nodes_in_the_destination_blocks() {
    let mut bench = Bench::fine();
    bench.remove(Side::Destination, Kind::Node, &fixtures::node_name(Side::Destination, 1));
    assert!(bench.one("PF-22", Level::Blocks).subject.contains("eu-west-1b"));
    let mut bench = Bench::fine();
    bench.refuse(Side::Destination, Kind::Node);
    let findings = bench.findings();
    assert!(findings.iter().any(|finding| finding.code == "PF-22" && finding.level == Level::Blocks), "{findings:#?}");
}

#[test]
fn a_volume_that_cannot_be_handed_over_blocks() {
    let spoils: [fn(&mut Ec2Volume); 9] = [
        |volume| volume.managed = true,
        |volume| volume.outpost = Some("arn:aws:outposts:x".into()),
        |volume| volume.attachments[0].delete_on_termination = true,
        |volume| volume.attachments[0].instance.clear(),
        |volume| volume.attachments.clear(),
        |volume| volume.attachments.push(volume.attachments[0].clone()),
        |volume| volume.attachments[0].state = AttachmentState::Detaching,
        |volume| volume.state = VolumeState::Error,
        |volume| volume.state = VolumeState::Available,
    ];
    for spoil in spoils {
        let mut bench = Bench::fine();
        bench.ec2("logs-web-1", spoil);
        bench.one("PF-23", Level::Blocks);
    }
}

#[test]
fn a_volume_on_another_node_than_its_pod_blocks() {
    let mut bench = Bench::fine();
    let other = fixtures::instance_id(Side::Source, 1);
    bench.ec2("data-web-0", |volume| volume.attachments[0].instance = other);
    bench.one("PF-23", Level::Blocks);
}

#[test]
fn a_tag_that_scopes_to_one_cluster_can_be_forced() {
    let mut bench = Bench::fine();
    bench.ec2("data-web-1", |volume| {
        volume.tags.insert("ebs.csi.aws.com/cluster-name".into(), "old".into());
    });
    let finding = bench.one("PF-25", Level::Forceable);
    assert!(finding.remedy.contains("aws ec2 create-tags"), "{finding:?}");
}

#[test]
fn volumes_without_the_drivers_tags_warn_once_together() {
    let mut bench = Bench::fine();
    for claim in ["data-web-1", "data-web-2"] {
        bench.ec2(claim, |volume| volume.tags.clear());
    }
    bench.one("PF-25", Level::Warns);
    for claim in ["data-web-1", "data-web-2"] {
        bench.ec2(claim, |volume| {
            volume.tags.insert("kubernetes.io/created-for/pvc/name".into(), "data".into());
        });
    }
    bench.passes();
}
