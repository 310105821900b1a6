//! What the storage is made of: EBS only (PF-15), one node at a time (PF-16), translatable (PF-17);
//! and what else the pods have that does not move (PF-36, SS-7).

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::{Case, Claim, is_ebs, not_ebs};
use super::scope::subject;
use super::{Finding, Level};
use crate::names::some;
use crate::plan::{self, IdleClaims};
use crate::record::Subject;
use crate::translate;
use crate::world::{Kind, Object, Side};

/// Keys of a PV's node affinity that are understood: they name the zone, or follow from it.
const ZONE_KEYS: &[&str] =
    &["topology.kubernetes.io/zone", "topology.ebs.csi.aws.com/zone", "failure-domain.beta.kubernetes.io/zone"];

/// Keys of a PV's node affinity that say nothing about where the volume is.
const HARMLESS_KEYS: &[&str] = &[
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/region",
    "kubernetes.io/os",
    "eks.amazonaws.com/compute-type",
];

/// PF-15: the claims are EBS volumes, and there is at least one.
pub(super) fn kinds(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = plain(case);
    for claim in &case.claims {
        let Some(volume) = claim.volume else { continue };
        let Some(what) = not_ebs(volume) else { continue };
        findings.push(Finding {
            code: "PF-15",
            level: Level::Blocks,
            subject: claim.volume_subject(),
            what,
            remedy: format!(
                "only EBS volumes can be handed over, and sets whose claims are all such; `{} get pv {} -o yaml` shows this one",
                case.source(Kind::PersistentVolume),
                volume.name()
            ),
        });
    }
    // Whether idle claims move is asked for first (PF-36).
    let is_open = !case.idle.is_empty() && case.scope.request.idle_claims == IdleClaims::Undecided;
    if case.claims.is_empty() && findings.is_empty() && !is_open {
        findings.push(case.finding(
            "PF-15",
            Level::Blocks,
            "it has no EBS claim that would move, so there is nothing to hand over".to_owned(),
            format!(
                "apply its manifest in the destination: `{} get statefulset {} -o yaml` shows it; then delete it in the source",
                case.source(Kind::StatefulSet),
                case.set.name()
            ),
        ));
    }
    findings
}

/// Claims in the pod template of a set with several pods: they are nobody's own (§1.3).
fn plain(case: &Case<'_>) -> Vec<Finding> {
    if case.set.replicas() == 1 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for name in case.set.plain_claims() {
        let world = case.world();
        let claim = world.object(Side::Source, Kind::PersistentVolumeClaim, name);
        let volume = claim
            .and_then(|claim| claim.text("/spec/volumeName"))
            .and_then(|volume| world.object(Side::Source, Kind::PersistentVolume, volume));
        if volume.is_none_or(is_ebs) {
            findings.push(Finding {
                code: "PF-15",
                level: Level::Blocks,
                subject: subject(Side::Source, Kind::PersistentVolumeClaim, name),
                what: format!(
                    "the pod template of a set with {} replicas names it: it is no pod's own, so it moves with none",
                    case.set.replicas()
                ),
                remedy: format!(
                    "scale to one replica first (`{} scale statefulset {} --replicas=1`), or to 0 and move the claim alone: `{}`",
                    case.source(Kind::StatefulSet),
                    case.set.name(),
                    case.scope.of_claim(name)
                ),
            });
        }
    }
    findings
}

/// PF-16: only one node at a time can have the volume, by Kubernetes' and by EC2's rules.
pub(super) fn access(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for claim in &case.claims {
        let modes: Vec<String> = [claim.claim, claim.volume]
            .into_iter()
            .flatten()
            .flat_map(|object| object.array("/spec/accessModes"))
            .filter_map(Value::as_str)
            .filter(|mode| !matches!(*mode, "ReadWriteOnce" | "ReadWriteOncePod"))
            .map(str::to_owned)
            .collect();
        let mut blocks = |subject: String, what: String, remedy: String| {
            findings.push(Finding { code: "PF-16", level: Level::Blocks, subject, what, remedy });
        };
        if !modes.is_empty() {
            blocks(
                claim.subject(),
                format!("it has access mode {}: more than one node may use it at a time", some(&modes)),
                format!(
                    "only ReadWriteOnce and ReadWriteOncePod can be handed over; `{} get pvc {} -o yaml`",
                    case.source(Kind::PersistentVolumeClaim),
                    claim.name
                ),
            );
        }
        if let (Some(id), Some(ec2)) = (&claim.id, claim.ec2(case.world()))
            && ec2.multi_attach
        {
            blocks(
                claim.id_subject(),
                "EC2 lets several instances attach it at once (multi-attach), so nothing would keep two clusters apart"
                    .to_owned(),
                format!("when it is detached: `aws ec2 modify-volume --volume-id {id} --no-multi-attach-enabled`"),
            );
        }
    }
    findings
}

/// PF-17: mode, file system, partition and topology can be said in B as they are in A.
pub(super) fn translatable(case: &Case<'_>) -> Vec<Finding> {
    case.claims.iter().flat_map(|claim| one_translatable(case, claim)).collect()
}

fn one_translatable(case: &Case<'_>, claim: &Claim<'_>) -> Vec<Finding> {
    let (Some(object), Some(volume)) = (claim.claim, claim.volume) else { return Vec::new() };
    if !is_ebs(volume) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let show = format!("`{} get pv {} -o yaml`", case.source(Kind::PersistentVolume), volume.name());
    let mut push = |level: Level, what: String, remedy: String| {
        findings.push(Finding { code: "PF-17", level, subject: claim.volume_subject(), what, remedy });
    };
    let mode = |object: &Object| object.text("/spec/volumeMode").unwrap_or("Filesystem").to_owned();
    if mode(volume) != mode(object) {
        push(
            Level::Blocks,
            format!("its volumeMode is {}, its claim's {}: a pod could format raw data", mode(volume), mode(object)),
            format!("find out which is right ({show}), and make the pair anew with one mode"),
        );
    }
    let zone = claim.ec2(case.world()).map(|ec2| ec2.zone.as_str());
    for (key, values) in affinity(volume) {
        if HARMLESS_KEYS.contains(&key) {
            continue;
        }
        if !ZONE_KEYS.contains(&key) {
            push(
                Level::Blocks,
                format!("its node affinity asks for {key}, which cannot be carried over"),
                format!("a PV's node affinity cannot be changed: make the pair anew without it ({show})"),
            );
        } else if let Some(zone) = zone
            && !values.iter().any(|value| value.split("__").any(|part| part == zone))
        {
            push(
                Level::Blocks,
                format!(
                    "its node affinity says {key} {}, but EC2 says that the volume is in {zone}",
                    values.join(", ")
                ),
                format!(
                    "find out which volume this is: `aws ec2 describe-volumes --volume-ids {}`",
                    claim.id.as_ref().map_or("", |id| &id.0)
                ),
            );
        }
    }
    if volume
        .at("/spec/csi/volumeAttributes")
        .is_some_and(|attributes| attributes.get("blockattachuntilinitialized").is_some())
    {
        push(
            Level::Warns,
            "it has `blockattachuntilinitialized`: attaching in the destination may take long while the volume initializes".to_owned(),
            format!("give it time with `--ready-timeout` ({show})"),
        );
    }
    if let Some(class) = object.text("/spec/volumeAttributesClassName").filter(|class| !class.is_empty()) {
        push(
            Level::Warns,
            format!(
                "its claim has VolumeAttributesClass {class}, which is not carried over; the volume keeps its performance"
            ),
            format!(
                "set it in the destination after the move, where `{} get volumeattributesclass {class}` must be the same",
                case.destination(Kind::PersistentVolume)
            ),
        );
    }
    let secrets: Vec<String> = volume
        .at("/spec/csi")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.ends_with("SecretRef"))
        .filter_map(|(key, value)| Some(format!("{key} {}", value["name"].as_str()?)))
        .collect();
    if !secrets.is_empty() {
        push(
            Level::Warns,
            format!("its driver needs Secrets: {}", some(&secrets)),
            format!("see that the destination has them ({show})"),
        );
    }
    findings
}

/// PF-17: the plan can be made, which is the last word on what can be translated; what it changes is told.
pub(super) fn planned(case: &Case<'_>) -> Vec<Finding> {
    let remedy = match case.scope.request.subject {
        Subject::Set => {
            format!("nothing is to be done; `{}` shows all objects", case.scope.command("plan", ""))
        }
        Subject::Claim => "nothing is to be done".to_owned(),
    };
    let plan = match plan::build(case.scope.request, 1, case.world()) {
        Ok(plan) => plan,
        Err(error) => {
            return vec![case.finding(
                "PF-17",
                Level::Blocks,
                format!("no plan can be made of it: {error:#}"),
                format!("mend that, then run `{}`", case.scope.command("preflight", "")),
            )];
        }
    };
    let told =
        translate::remarks(&plan).into_iter().map(|remark| case.finding("PF-17", Level::Tells, remark, remedy.clone()));
    told.collect()
}

/// Returns the keys of a PV's node affinity with their values, of all terms.
fn affinity(volume: &Object) -> BTreeMap<&str, Vec<&str>> {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for term in volume.array("/spec/nodeAffinity/required/nodeSelectorTerms") {
        for part in ["matchExpressions", "matchFields"] {
            for expression in term[part].as_array().into_iter().flatten() {
                let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
                keys.entry(expression["key"].as_str().unwrap_or_default()).or_default().extend(values);
            }
        }
    }
    keys
}

/// PF-36: data of the pods that lives outside their claims and does not move.
pub(super) fn left_behind(case: &Case<'_>) -> Vec<Finding> {
    let templates: Vec<&str> = case.set.claim_templates().collect();
    let mut left: Vec<String> = Vec::new();
    let mut scratch: Vec<String> = Vec::new();
    for volume in case.pod_spec()["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default();
        if templates.contains(&name) {
            continue;
        }
        if let Some(path) = volume.pointer("/hostPath/path").and_then(Value::as_str) {
            left.push(format!("{name} (hostPath {path})"));
        } else if volume.get("ephemeral").is_some() {
            let size = volume.pointer("/ephemeral/volumeClaimTemplate/spec/resources/requests/storage");
            left.push(format!(
                "{name} (ephemeral claim{})",
                size.and_then(Value::as_str).map_or(String::new(), |size| format!(", {size}"))
            ));
        } else if volume.get("emptyDir").is_some_and(|directory| directory["medium"] != "Memory") {
            scratch.push(name.to_owned());
        }
    }
    let mut findings = Vec::new();
    let show = format!("`{} get statefulset {} -o yaml`", case.source(Kind::StatefulSet), case.set.name());
    if !left.is_empty() {
        findings.push(case.finding(
            "PF-36",
            Level::Warns,
            format!("its pods have volumes whose data does not move: {}", some(&left)),
            format!("see whether anything in them is missed ({show})"),
        ));
    }
    if !scratch.is_empty() {
        findings.push(case.finding(
            "PF-36",
            Level::Tells,
            format!("its pods start with empty emptyDir volumes, as at every restart: {}", some(&scratch)),
            format!("nothing is to be done ({show})"),
        ));
    }
    findings
}
