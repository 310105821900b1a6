//! What a person can do about each reason to stop: the pure part of a failure's text.

use super::Typed;
use crate::decide::{ASKING_EC2, Condition, Stop};
use crate::failure::Exit;
use crate::plan::{Plan, RETAIN_PATCH};
use crate::record::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::world::Side;

/// Names of the contexts as this run calls them.
#[derive(Clone, Debug)]
pub(super) struct Contexts {
    /// Cluster A.
    pub(super) source: String,
    /// Cluster B.
    pub(super) destination: String,
}

impl Contexts {
    /// Returns how kubectl is called for a side.
    fn kubectl(&self, side: Side, plan: &Plan) -> String {
        let context = match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        };
        format!("kubectl --context {context} -n {}", plan.place(side).namespace)
    }
}

/// What follows from a stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// How the process ends.
    pub(super) exit: Exit,
    /// What to do about the cause, commands in backticks.
    pub(super) hints: Vec<String>,
    /// Whether the same command, typed again, can go on.
    pub(super) can_go_on: bool,
    /// Whether rollback is a way out.
    pub(super) can_go_back: bool,
}

impl Advice {
    fn pause(hint: String) -> Advice {
        Advice { exit: Exit::Failed, hints: vec![hint], can_go_on: true, can_go_back: true }
    }

    fn refuse(hint: String) -> Advice {
        Advice { exit: Exit::Refused, hints: vec![hint], can_go_on: false, can_go_back: false }
    }
}

/// Returns what a person can do about a stop.
pub(super) fn advice(stop: &Stop, plan: &Plan, typed: &Typed, contexts: &Contexts) -> Advice {
    let kubectl = |side: Side| contexts.kubectl(side, plan);
    let set = plan.sets.first().map_or("", |set| set.name.as_str());
    match stop {
        Stop::SeveralSets => Advice::refuse("use the sts-migrate that wrote the plan".to_owned()),
        Stop::OtherCluster { .. } => Advice::refuse(format!(
            "--src must lead to the cluster that was called {}, --dst to {}; are they swapped?",
            plan.source.context, plan.destination.context
        )),
        Stop::Record { side, .. } => Advice::refuse(format!(
            "look at it: `{} get configmap -l {MANAGED_BY_LABEL}={MANAGED_BY} -o yaml`",
            kubectl(*side)
        )),
        Stop::OtherMigration { .. } => {
            Advice::refuse(format!("finish that one first; {} shows it", typed.hint("status")))
        }
        Stop::RollbackBegun => Advice::refuse(format!("finish it first: {}", typed.hint("rollback"))),
        Stop::PointOfNoReturn => Advice::refuse(format!(
            "finish it: {}; afterwards {} can be moved again from {} to {}",
            typed.hint("finalize"),
            plan.name(),
            plan.destination.context,
            plan.source.context
        )),
        Stop::OtherPlan { .. } => {
            Advice { can_go_on: true, ..Advice::refuse("typed again, the command goes on with that plan".to_owned()) }
        }
        Stop::Ended { .. } => Advice::refuse(format!("{} shows how it ended", typed.hint("status"))),
        Stop::PlanMissing { side } => {
            let (from, to) = (kubectl(side.other()), kubectl(*side));
            Advice::pause(format!(
                "copy it from the {} cluster: `{from} get secret -l {MANAGED_BY_LABEL}={MANAGED_BY} -o json | \
                 jq '.items[].metadata |= {{name, labels, annotations}}' | {to} create -f -`",
                side.other()
            ))
        }
        Stop::Namespace { side, namespace, .. } => Advice::pause(format!(
            "see to namespace {namespace} of the {side} cluster: `{} get namespace {namespace} -o yaml`",
            kubectl(*side)
        )),
        Stop::Foreign { side, kind, name } => Advice {
            exit: Exit::Refused,
            can_go_on: true,
            ..Advice::pause(format!(
                "somebody else made it; rename or remove it: `{} get {} {name} -o yaml`",
                kubectl(*side),
                kind.to_lowercase()
            ))
        },
        Stop::Changed { side, kind, name, .. } => Advice::pause(format!(
            "put it back as it was, or roll back: `{} get {} {name} -o yaml`",
            kubectl(*side),
            kind.to_lowercase()
        )),
        Stop::Missing { side, kind, name } => Advice::pause(format!(
            "find out who removed {kind} {name} from the {side} cluster; its volume still exists"
        )),
        Stop::SourceReplaced { kind, name, .. } => Advice {
            can_go_back: false,
            ..Advice::pause(format!(
                "stop whoever makes it, save what it holds, then remove it: `{} delete {} {name}`",
                kubectl(Side::Source),
                kind.to_lowercase()
            ))
        },
        Stop::SourceChanged { .. } | Stop::SetChanged { .. } => Advice {
            exit: Exit::Failed,
            hints: vec![format!(
                "take the plan back and begin anew: {}, then {}",
                typed.hint("rollback"),
                typed.hint("run")
            )],
            can_go_on: false,
            can_go_back: false,
        },
        Stop::SetVanished => Advice {
            can_go_on: false,
            ..Advice::pause("its pods may be going down: roll back, which creates it again as it was".to_owned())
        },
        Stop::SetReturned { .. } => Advice::pause(format!(
            "stop whoever makes it (an operator, Argo CD, Flux, Helm), then remove the object and leave its pods: \
             `{} delete statefulset {set} --cascade=orphan`",
            kubectl(Side::Source)
        )),
        Stop::PodReturned { pod, .. } => Advice::pause(format!(
            "stop whoever makes it, then remove it: `{} delete pod {pod}`",
            kubectl(Side::Source)
        )),
        Stop::NotRetained { side, volume, .. } => Advice::pause(format!(
            "stop whoever does that, then: `{} patch pv {volume} -p {RETAIN_PATCH}`",
            kubectl(*side)
        )),
        Stop::Scaled { handed_over, .. } => Advice::pause(format!(
            "stop whoever scales it, then: `{} scale statefulset {set} --replicas {handed_over}`",
            kubectl(Side::Destination)
        )),
        Stop::UsedBehind { side, what, .. } => {
            Advice::pause(format!("remove {what} in the {side} cluster: `{} get pods -o wide`", kubectl(*side)))
        }
        Stop::HeldByOther { volume, instance } => Advice::pause(format!(
            "find out what {instance} does with it: `aws ec2 describe-volumes --volume-ids {volume}`"
        )),
        Stop::VolumeLost { volume, .. } => Advice::pause(format!(
            "look at it, and at the region and profile of this run: `aws ec2 describe-volumes --volume-ids {volume}`"
        )),
        Stop::NodeNotReady { node, .. } => {
            Advice::pause(format!("bring node {node} back: `{} describe node {node}`", kubectl(Side::Source)))
        }
        Stop::WrongVolume { pod, .. } => Advice::pause(format!(
            "do not let it write: roll back, or look first: `{} describe pod {pod}`",
            kubectl(Side::Destination)
        )),
        Stop::ForeignData { kind, name } => Advice {
            can_go_back: false,
            ..Advice::pause(format!(
                "save what it holds, then remove it: `{} delete {} {name}`",
                kubectl(Side::Destination),
                kind.to_lowercase()
            ))
        },
        Stop::TimedOut { on, .. } => Advice { hints: timed_out(on, kubectl), ..Advice::pause(String::new()) },
        Stop::Refused { read, .. } if read == ASKING_EC2 => Advice::pause(
            "see whom AWS takes this machine for: `aws sts get-caller-identity`; it needs ec2:DescribeVolumes"
                .to_owned(),
        ),
        Stop::Refused { .. } => Advice::pause("give the user of that context the right; README lists all".to_owned()),
        Stop::ActRefused { .. } => Advice::pause("let the API server allow it: rights, quota, admission".to_owned()),
        Stop::ActUnheeded { .. } => Advice::pause("find out what changes it back".to_owned()),
        Stop::CutoverCommandMissing => Advice::refuse(
            "give it again: `--cutover-command COMMAND`, with which it goes on (on rollback it runs with `back`); \
             `--cutover-command true` if what it did was finished or taken back by hand"
                .to_owned(),
        ),
        Stop::VerifyCommandMissing => Advice::refuse(format!(
            "give it again: `{} --verify-command COMMAND`; `--verify-command true` if you have looked yourself",
            typed.command("run")
        )),
        Stop::CommandFailed { .. } => Advice::pause("mend the command; it is run again".to_owned()),
        Stop::Stuck { .. } => Advice::pause("report it, with `-vv` and `--events FILE`".to_owned()),
    }
}

/// Returns what a person can do about a wait that was too long.
///
/// A pod on a node that does not answer ends when the node is back, or when Kubernetes takes it away
/// from a machine that is known to be off: <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/>.
fn timed_out(on: &Condition, kubectl: impl Fn(Side) -> String) -> Vec<String> {
    match on {
        Condition::PodGone { side, node, node_ready: false, .. } => vec![
            format!("bring node {node} back, and its kubelet ends the pod: `{} describe node {node}`", kubectl(*side)),
            format!(
                "or, only if its machine is truly off, let Kubernetes remove the pods that end there and detach their \
                 volumes: `{} taint node {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`",
                kubectl(*side)
            ),
        ],
        Condition::NotInUse { side, node, node_ready: false, .. } => vec![
            format!("bring node {node} back, and its kubelet unmounts: `{} describe node {node}`", kubectl(*side)),
            format!(
                "or, only if its machine is truly off and tainted with `node.kubernetes.io/out-of-service`, take no \
                 heed of what it last reported: type the command again with `--accept-unclean-detach {node}`"
            ),
        ],
        Condition::ClaimUnused { side, pod, .. } => {
            vec![format!("find out whose pod that is, and let it end: `{} describe pod {pod}`", kubectl(*side))]
        }
        // Their clocks are Kubernetes' own: a longer limit of ours would change nothing.
        Condition::PodGone { side, pod, .. } => {
            vec![format!("see what keeps it: `{} describe pod {pod}`", kubectl(*side))]
        }
        Condition::Gone { side, kind, names, .. } => vec![format!(
            "see what keeps it, its finalizers and events: `{} describe {} {}`",
            kubectl(*side),
            kind.to_lowercase(),
            names.first().map_or("", String::as_str)
        )],
        Condition::Bound { side, claims } => vec![format!(
            "see what keeps it: `{} describe pvc {}`",
            kubectl(*side),
            claims.first().map_or("", String::as_str)
        )],
        Condition::Answer { .. } | Condition::Retained { .. } | Condition::OwnersGone { .. } => {
            vec!["look at what it waited for; no longer limit would help".to_owned()]
        }
        Condition::NotInUse { .. } | Condition::Detached { .. } | Condition::Free { .. } => {
            vec!["look at what it waited for; `--detach-timeout 30m` gives it more time".to_owned()]
        }
        Condition::Available { .. } | Condition::Proven { .. } | Condition::Home { .. } | Condition::Address { .. } => {
            vec!["look at what it waited for; `--ready-timeout 30m` gives it more time".to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{PlaceArgs, SubjectArgs};
    use crate::fixtures;

    fn advised(stop: &Stop) -> Advice {
        let place = PlaceArgs { src: Some("old".into()), dst: Some("new".into()), ..PlaceArgs::default() };
        let subject = SubjectArgs { place, ..SubjectArgs::default() };
        let typed = Typed::new("sts-migrate", &subject);
        let contexts = Contexts { source: "old".to_owned(), destination: "new".to_owned() };
        advice(stop, &fixtures::plan(2, 1), &typed, &contexts)
    }

    fn free() -> Condition {
        Condition::Free { volume: "vol-1".into(), state: "in-use".into() }
    }

    #[test]
    fn what_is_not_this_commands_turn_is_refused_and_the_rest_pauses() {
        let side = Side::Source;
        let refusals = [
            Stop::SeveralSets,
            Stop::OtherCluster { side, planned: "1".into(), found: "2".into() },
            Stop::Record { side, reason: "torn".into() },
            Stop::OtherMigration { side, id: "m".into() },
            Stop::OtherPlan { side },
            Stop::RollbackBegun,
            Stop::PointOfNoReturn,
            Stop::Ended { outcome: "Completed" },
        ];
        for stop in refusals {
            assert!(stop.is_refusal());
            assert_eq!(advised(&stop).exit, Exit::Refused, "{stop}");
        }
        let pauses = [
            Stop::SetVanished,
            Stop::PlanMissing { side },
            Stop::TimedOut { on: free(), seconds: 300 },
            Stop::NodeNotReady { node: "n".into(), pod: "web-0".into() },
            Stop::Stuck { reads: "pods".into() },
        ];
        for stop in pauses {
            assert_eq!(advised(&stop).exit, Exit::Failed, "{stop}");
        }
    }

    #[test]
    fn hints_are_commands_for_the_contexts_of_this_run() {
        let scaled = advised(&Stop::Scaled { replicas: 5, handed_over: 1 });
        assert_eq!(
            scaled.hints,
            ["stop whoever scales it, then: `kubectl --context new -n market scale statefulset web --replicas 1`"]
        );
        let changed = advised(&Stop::SetChanged { differences: vec!["image".into()] });
        let wanted = "take the plan back and begin anew: `sts-migrate rollback --src old --dst new`, then `sts-migrate run --src old --dst new`";
        assert_eq!(changed.hints, [wanted]);
    }

    #[test]
    fn the_ways_out_of_a_silent_node_are_named_and_never_for_one_that_answers() {
        let timed_out = |on| advised(&Stop::TimedOut { on, seconds: 65 });
        let (side, node) = (Side::Source, || "node-1".to_owned());
        let ends = |node_ready| timed_out(Condition::PodGone { side, pod: "web-0".into(), node: node(), node_ready });
        let taint = "`kubectl --context old -n shop taint node node-1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`";
        let hints = ends(false).hints;
        assert!(
            hints.len() == 2 && hints[0].starts_with("bring node node-1 back") && hints[1].ends_with(taint),
            "{hints:?}"
        );
        let uses =
            |node_ready| timed_out(Condition::NotInUse { side, node: node(), node_ready, volume: "vol-1".into() });
        let hints = uses(false).hints;
        assert!(hints.len() == 2 && hints[1].ends_with("`--accept-unclean-detach node-1`"), "{hints:?}");
        let usual = timed_out(free());
        assert_eq!(uses(true), usual);
        // These have clocks of their own, which no flag makes longer.
        assert_eq!(ends(true).hints, ["see what keeps it: `kubectl --context old -n shop describe pod web-0`"]);
        let (names, finalizers) = (vec!["data-web-0".to_owned()], Vec::new());
        let gone = timed_out(Condition::Gone { side, kind: "PersistentVolumeClaim", names, finalizers }).hints;
        let looks = "`kubectl --context old -n shop describe persistentvolumeclaim data-web-0`";
        assert!(gone.len() == 1 && gone[0].ends_with(looks), "{gone:?}");
    }

    #[test]
    fn a_missing_plan_is_copied_from_the_other_side() {
        let hints = advised(&Stop::PlanMissing { side: Side::Destination }).hints;
        assert!(
            hints[0].starts_with("copy it from the source cluster: `kubectl --context old -n shop get secret"),
            "{hints:?}"
        );
        assert!(hints[0].ends_with("kubectl --context new -n market create -f -`"), "{hints:?}");
    }
}
