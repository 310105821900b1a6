//! What EC2 says of the volumes: readable (PF-24), held by A and by nobody else (PF-22, PF-23), and
//! tagged so that B's driver may attach them (PF-25).

use std::collections::BTreeSet;

use super::case::{Case, Claim, Role};
use super::{Finding, Level};
use crate::names::some;
use crate::world::{AttachmentState, Ec2Volume, Kind, Object, Side, VolumeState};

/// Tag by which roles scoped to one EKS cluster may attach and detach (EC-8).
const CLUSTER_NAME_TAG: &str = "ebs.csi.aws.com/cluster-name";

/// Tags of which the driver's newer policy wants one (EC-8).
const DRIVER_TAGS: [&str; 2] = ["ebs.csi.aws.com/cluster", "kubernetes.io/created-for/pvc/name"];

/// PF-24: EC2 shows every volume. Volumes that it does not show for one reason are one finding.
pub(super) fn readable(case: &Case<'_>) -> Vec<Finding> {
    let mut reasons: Vec<((String, &str), Vec<&Claim<'_>>)> = Vec::new();
    for claim in case.claims.iter().filter(|claim| claim.id.is_some()) {
        let reason = match claim.facts(case.world()) {
            Some(Ok(Some(_))) => continue,
            Some(Ok(None)) => (
                "EC2 does not know it: these are credentials of another account, or another region".to_owned(),
                "must show it; choose with `--profile` and `--region`",
            ),
            Some(Err(unknown)) => (
                format!("EC2 did not say what it is: {}", unknown.reason),
                "must work: the right `ec2:DescribeVolumes` is needed",
            ),
            None => ("EC2 was not asked".to_owned(), "must work; run this again"),
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, claims)) => claims.push(claim),
            None => reasons.push((reason, vec![claim])),
        }
    }
    let finding = |((what, remedy), claims): ((String, &str), Vec<&Claim<'_>>)| {
        let ids: Vec<String> = claims.iter().filter_map(|claim| Some(claim.id.as_ref()?.to_string())).collect();
        let subject = match claims.as_slice() {
            [claim] => claim.id_subject(),
            _ => format!("volumes {}", some(&ids)),
        };
        let remedy = format!("`aws ec2 describe-volumes --volume-ids {}` {remedy}", ids[0]);
        Finding { code: "PF-24", level: Level::Blocks, subject, what, remedy }
    };
    reasons.into_iter().map(finding).collect()
}

/// PF-22: the volumes hang on A's nodes, and B has nodes in their zones.
pub(super) fn placed(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = case.scope.doubts("PF-22", Level::Blocks, &[Kind::Node], "whether nodes are in the right zones");
    if !findings.is_empty() {
        return findings;
    }
    let instances =
        |side| -> BTreeSet<&str> { case.world().objects(side, Kind::Node).filter_map(Object::instance_id).collect() };
    let source = instances(Side::Source);
    let mut zones: BTreeSet<&str> = BTreeSet::new();
    for claim in &case.claims {
        let (Some(id), Some(ec2)) = (&claim.id, claim.ec2(case.world())) else { continue };
        zones.insert(&ec2.zone);
        for attachment in ec2.attachments.iter().filter(|found| !found.instance.is_empty()) {
            if !source.contains(attachment.instance.as_str()) {
                findings.push(Finding {
                    code: "PF-22",
                    level: Level::Blocks,
                    subject: claim.id_subject(),
                    what: format!("it is attached to instance {}, which is no node of the source", attachment.instance),
                    remedy: format!("find out who attached it: `aws ec2 describe-volumes --volume-ids {id}`, `aws ec2 describe-instances --instance-ids {}`", attachment.instance),
                });
            }
        }
    }
    let there: BTreeSet<&str> = case.world().objects(Side::Destination, Kind::Node).filter_map(zone).collect();
    for zone in zones.into_iter().filter(|zone| !there.contains(zone)) {
        findings.push(Finding {
            code: "PF-22",
            level: Level::Blocks,
            subject: format!("zone {zone} (destination)"),
            what: "volumes that shall move are in it, but no node of the destination is: pods could not start on them"
                .to_owned(),
            remedy: format!(
                "add a node in {zone}; `{} get nodes -L topology.kubernetes.io/zone` shows what there is",
                case.destination(Kind::Node)
            ),
        });
    }
    findings
}

/// Returns the zone of a node, from its label or its provider id (`aws:///eu-west-1a/i-…`).
pub(super) fn zone(node: &Object) -> Option<&str> {
    node.label("topology.kubernetes.io/zone").or_else(|| node.text("/spec/providerID")?.rsplit('/').nth(1))
}

/// PF-23: each volume is where its pod is, attached once, and outlives its instance.
pub(super) fn attached(case: &Case<'_>) -> Vec<Finding> {
    case.claims
        .iter()
        .filter_map(|claim| Some((claim, claim.ec2(case.world())?)))
        .flat_map(|(claim, ec2)| one_attached(case, claim, ec2))
        .collect()
}

fn one_attached(case: &Case<'_>, claim: &Claim<'_>, ec2: &Ec2Volume) -> Vec<Finding> {
    let Some(id) = &claim.id else { return Vec::new() };
    let show = format!("`aws ec2 describe-volumes --volume-ids {id}`");
    let mut findings = Vec::new();
    let mut blocks = |what: String, remedy: String| {
        findings.push(Finding { code: "PF-23", level: Level::Blocks, subject: claim.id_subject(), what, remedy });
    };
    if ec2.managed {
        blocks(
            "a managed AWS service operates it".to_owned(),
            format!("move the workload off that service first; {show}"),
        );
    }
    if let Some(outpost) = &ec2.outpost {
        blocks(format!("it lives on Outpost {outpost}, which cannot be handed over"), show.clone());
    }
    if ec2.attachments.iter().any(|attachment| attachment.delete_on_termination) {
        let instance = &ec2.attachments[0].instance;
        blocks(
            format!("it is deleted when instance {instance} is terminated (DeleteOnTermination)"),
            format!(
                "take the flag off: `aws ec2 modify-instance-attribute --instance-id {instance} --block-device-mappings '[{{\"DeviceName\":\"DEVICE\",\"Ebs\":{{\"DeleteOnTermination\":false}}}}]'` with the device that {show} names"
            ),
        );
    }
    if ec2.attachments.iter().any(|attachment| attachment.instance.is_empty()) {
        blocks(
            "it is attached to something that is no instance of this account".to_owned(),
            format!("find out what holds it: {show}"),
        );
    }
    // A pod that is missing or has ended holds nothing; where there is one, the volume is on its node.
    let pod = match claim.role {
        Role::Ordinal(ordinal) | Role::Plain(ordinal) => case.pod(ordinal).filter(|pod| !pod.is_finished_pod()),
        Role::Idle | Role::Alone => None,
    };
    let running = pod.filter(|pod| pod.text("/status/phase") == Some("Running"));
    let node = pod.and_then(|pod| pod.text("/spec/nodeName"));
    let instance =
        node.and_then(|node| case.world().object(Side::Source, Kind::Node, node)).and_then(Object::instance_id);
    match (ec2.state, ec2.attachments.as_slice()) {
        (VolumeState::Available, []) if running.is_none() => {}
        // Of a single claim, whoever holds it in A is PF-18's to name.
        (VolumeState::InUse, [only])
            if claim.role == Role::Alone && case.world().side_of_instance(&only.instance) == Some(Side::Source) => {}
        (VolumeState::InUse, [only]) if only.state == AttachmentState::Attached && pod.is_some() => {
            if let (Some(pod), Some(instance)) = (running, instance)
                && only.instance != instance
                && !only.instance.is_empty()
            {
                blocks(
                    format!(
                        "pod {} runs on instance {instance}, but the volume is attached to {}",
                        pod.name(),
                        only.instance
                    ),
                    format!("find out which volume the pod uses: {show}"),
                );
            }
        }
        (state, attachments) => {
            let attachments: Vec<String> = attachments
                .iter()
                .map(|found| format!("{:?} on {}", found.state, found.instance).to_lowercase())
                .collect();
            let wanted = match (claim.role, running) {
                (Role::Idle | Role::Alone, _) => "available, as no pod uses it",
                (_, Some(_)) => "in-use with one attachment, as its pod runs",
                (_, None) => "available, or attached to its pod's node",
            };
            let attachments = if attachments.is_empty() { "no attachment".to_owned() } else { some(&attachments) };
            blocks(
                format!("EC2 says {} with {attachments}; it should be {wanted}", word(state)),
                format!("wait until it is, or find out what holds it: {show}"),
            );
        }
    }
    findings
}

fn word(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Creating => "creating",
        VolumeState::Available => "available",
        VolumeState::InUse => "in-use",
        VolumeState::Deleting => "deleting",
        VolumeState::Deleted => "deleted",
        VolumeState::Error => "error",
        VolumeState::Other => "a state that this program does not know",
    }
}

/// PF-25: the tags let B's driver attach. The program writes no tags.
pub(super) fn tags(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut untagged: Vec<String> = Vec::new();
    for claim in &case.claims {
        let (Some(id), Some(ec2)) = (&claim.id, claim.ec2(case.world())) else { continue };
        if let Some(cluster) = ec2.tags.get(CLUSTER_NAME_TAG) {
            findings.push(Finding {
                code: "PF-25",
                level: Level::Forceable,
                subject: claim.id_subject(),
                what: format!("its tag {CLUSTER_NAME_TAG}={cluster} scopes it to one EKS cluster: a driver whose role is scoped too will not attach it in the destination until it is retagged"),
                remedy: format!(
                    "if roles are scoped here: move with `--force`, and when a pod's attach is refused, `aws ec2 create-tags --resources {id} --tags Key={CLUSTER_NAME_TAG},Value=DESTINATION_CLUSTER` (earlier, the source cannot detach it), then run again"
                ),
            });
        }
        if !DRIVER_TAGS.iter().any(|tag| ec2.tags.contains_key(*tag)) {
            untagged.push(id.to_string());
        }
    }
    if !untagged.is_empty() {
        findings.push(Finding {
            code: "PF-25",
            level: Level::Warns,
            subject: format!("volumes {}", some(&untagged)),
            what: format!("they have neither tag {} nor {}: a driver with the newer IAM policy may not attach them", DRIVER_TAGS[0], DRIVER_TAGS[1]),
            remedy: format!(
                "look at the role of the destination's driver; if its policy wants the tag, `aws ec2 create-tags --resources {} --tags Key={},Value=true`",
                untagged.join(" "),
                DRIVER_TAGS[0]
            ),
        });
    }
    findings
}
