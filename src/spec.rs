//! What an operator asks for: flags and the `StatefulSetMigration` document, made into one [`Spec`].
//!
//! Every field is optional: a field that nobody gave is decided by the plan (on resume), by the
//! kubeconfig or by a default. No I/O but reading the file that `-f` names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decide::{Commands, Goal, Until};
use crate::plan::{IdleClaims, Order, Place, Plan, Request};
use crate::record::{Direction, Subject};

mod document;
mod merge;
mod schema;

pub(crate) use document::{API_VERSION, KIND, parse};
pub(crate) use merge::merge;
pub(crate) use schema::schema;

/// How long the volumes of one step may take to become free after their pods ended. EBS detaches in
/// seconds; one that takes minutes hangs.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long pods may take to be available in B: images are pulled there for the first time.
const READY_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long a command of the operator's may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How the schema describes a duration; it lets nothing through that is read otherwise.
const SPAN_PATTERN: &str = r"^([0-9]+(ms|s|m|h|d))+$";

/// Where a cluster is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ClusterReference {
    /// A context of the kubeconfig as kubectl finds it.
    Context(String),
    /// The current context of this kubeconfig file.
    KubeConfig(PathBuf),
    /// A kubeconfig in a Secret `namespace/name`, read through the current context.
    KubeConfigSecret(String),
}

impl fmt::Display for ClusterReference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterReference::Context(context) => write!(formatter, "context {context}"),
            ClusterReference::KubeConfig(file) => write!(formatter, "kubeconfig {}", file.display()),
            ClusterReference::KubeConfigSecret(secret) => write!(formatter, "kubeconfig in Secret {secret}"),
        }
    }
}

/// A duration, written `90s` or `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("pattern" = SPAN_PATTERN))]
pub(crate) struct Span(pub(crate) Duration);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        humantime::parse_duration(text).map(Span).map_err(|_| "a duration is written like 90s or 5m".to_owned())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `1m 30s` would be two words on a command line.
        formatter.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a run goes, as `--until` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Everything stands ready in the destination, nothing is down
    Prepare,
    /// The StatefulSet object is deleted in the source, its pods run on
    Freeze,
    /// All ordinals run in the destination
    Swing,
    /// What publishes the set exists in the destination
    Cutover,
}

impl From<Phase> for Until {
    fn from(phase: Phase) -> Until {
        match phase {
            Phase::Prepare => Until::Prepare,
            Phase::Freeze => Until::Freeze,
            Phase::Swing => Until::Swing,
            Phase::Cutover => Until::Cutover,
        }
    }
}

/// Everything that flags and document can say about a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    /// Name of the migration; by default a hash of set and clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) migration_id: Option<String>,
    /// The cluster that the set leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_cluster: Option<ClusterReference>,
    /// Namespace in the source cluster; by default that of its context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_namespace: Option<String>,
    /// Name of the StatefulSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stateful_set_name: Option<String>,
    /// The cluster that the set goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dest_cluster: Option<ClusterReference>,
    /// Namespace in the destination cluster; by default the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dest_namespace: Option<String>,
    /// Whether to go on in spite of findings that say that they can be forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) force: Option<bool>,
    /// Order in which the ordinals move; to be chosen for more than one replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<Order>,
    /// Names of StorageClasses in the source cluster, and what they are in the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) storage_class_map: Option<BTreeMap<String, String>>,
    /// Whether the namespace may be created in the destination cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) create_namespace: Option<bool>,
    /// What happens to claims of ordinals out of range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_claims: Option<IdleClaims>,
    /// Limit for the volumes of a step to be free after their pods ended; 5m by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detach_timeout: Option<Span>,
    /// Limit for pods to be available; 10m by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready_timeout: Option<Span>,
    /// Limit for each command; 5m by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) command_timeout: Option<Span>,
    /// Run before each pod goes down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before_pod_command: Option<String>,
    /// Run after each pod is proven to run in the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verify_command: Option<String>,
    /// Run at the cutover, and again with `back` behind it on rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cutover_command: Option<String>,
    /// How far to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Phase>,
    /// The canary: pause when this ordinal runs in the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pause_after: Option<u32>,
    /// Nodes, of the cluster that lets go of the volumes, that are truly off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accept_unclean_detach: Option<Vec<String>>,
    /// AWS profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) profile: Option<String>,
    /// AWS region; by default as the AWS CLI finds it, else that of the volumes' zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<String>,
    /// Name of a single claim, instead of a set. The document is for sets: it has no such field.
    #[serde(skip)]
    pub(crate) claim: Option<String>,
}

impl Spec {
    /// Returns the request for a set or claim between two places.
    pub(crate) fn request(&self, subject: Subject, name: &str, source: Place, destination: Place) -> Request {
        Request {
            id: self.migration_id.clone(),
            subject,
            name: name.to_owned(),
            source,
            destination,
            order: self.order,
            storage_class_map: self.storage_class_map.clone().unwrap_or_default(),
            force: self.force.unwrap_or_default(),
            create_namespace: self.create_namespace.unwrap_or_default(),
            idle_claims: self.idle_claims.unwrap_or(IdleClaims::Undecided),
        }
    }

    /// Returns the goal of a run in this direction, up to this phase.
    pub(crate) fn goal(&self, direction: Direction, until: Until) -> Goal {
        Goal {
            direction,
            until,
            pause_after: self.pause_after.map(i64::from).filter(|_| direction == Direction::Forward),
            accept_unclean_detach: self.accept_unclean_detach.clone().unwrap_or_default(),
            commands: Commands {
                before_pod: self.before_pod_command.is_some(),
                verify: self.verify_command.is_some(),
                cutover: self.cutover_command.is_some(),
            },
        }
    }

    /// Returns `--detach-timeout`.
    pub(crate) fn detach_timeout(&self) -> Duration {
        self.detach_timeout.map_or(DETACH_TIMEOUT, |span| span.0)
    }

    /// Returns `--ready-timeout`.
    pub(crate) fn ready_timeout(&self) -> Duration {
        self.ready_timeout.map_or(READY_TIMEOUT, |span| span.0)
    }

    /// Returns `--command-timeout`.
    pub(crate) fn command_timeout(&self) -> Duration {
        self.command_timeout.map_or(COMMAND_TIMEOUT, |span| span.0)
    }

    /// Returns what this run asks for otherwise than the first run did: `(what, planned, asked)`.
    /// What was not given is as planned; time-outs and commands may differ.
    pub(crate) fn differences(&self, plan: &Plan) -> Vec<Difference> {
        let choices = &plan.choices;
        let map = |map: &BTreeMap<String, String>| {
            let pairs: Vec<String> = map.iter().map(|(old, new)| format!("{old}={new}")).collect();
            if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
        };
        let idle = |idle: IdleClaims| match idle {
            IdleClaims::Undecided => "undecided",
            IdleClaims::Include => "include",
            IdleClaims::Leave => "leave",
        };
        let compared = [
            ("migrationId", self.migration_id.clone(), plan.id.clone()),
            ("--dst-namespace", self.dest_namespace.clone(), plan.destination.namespace.clone()),
            ("--order", self.order.map(|order| order.to_string()), choices.order.to_string()),
            ("--storage-class-map", self.storage_class_map.as_ref().map(map), map(&choices.storage_class_map)),
            ("--force", self.force.map(|force| force.to_string()), choices.force.to_string()),
            (
                "--create-namespace",
                self.create_namespace.map(|create| create.to_string()),
                choices.create_namespace.to_string(),
            ),
            (
                "idle claims",
                self.idle_claims.map(|claims| idle(claims).to_owned()),
                idle(choices.idle_claims).to_owned(),
            ),
        ];
        compared
            .into_iter()
            .filter_map(|(what, asked, planned)| {
                let asked = asked.filter(|asked| *asked != planned)?;
                Some(Difference { what, planned, asked })
            })
            .collect()
    }
}

/// One choice that a resumed run makes otherwise than the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Flag or field.
    what: &'static str,
    planned: String,
    asked: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { what, planned, asked } = self;
        write!(formatter, "{what}: the migration began with {planned}, now it is {asked}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn what_was_not_said_again_is_as_it_began() {
        assert_eq!(Spec::default().differences(&fixtures::plan(2, 1)), []);
    }

    #[test]
    fn other_choices_are_named_with_both_values() {
        let spec = Spec {
            order: Some(Order::Together),
            dest_namespace: Some("elsewhere".to_owned()),
            storage_class_map: Some([("gp2".to_owned(), "gp3".to_owned())].into()),
            detach_timeout: "9m".parse().ok(),
            ..Spec::default()
        };
        let differences: Vec<String> =
            spec.differences(&fixtures::plan(2, 1)).iter().map(ToString::to_string).collect();
        assert_eq!(
            differences,
            [
                "--dst-namespace: the migration began with market, now it is elsewhere",
                "--order: the migration began with one-by-one, now it is together",
                "--storage-class-map: the migration began with none, now it is gp2=gp3",
            ]
        );
    }

    #[test]
    fn durations_are_one_word() {
        assert_eq!("90s".parse::<Span>().map(|span| span.to_string()), Ok("1m30s".to_owned()));
        assert!("soon".parse::<Span>().is_err());
    }
}
