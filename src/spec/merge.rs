//! Flags and document into one: what both say must be the same.

use serde_json::{Map, Value};

use super::Spec;
use crate::failure::Failure;

/// Fields of the document and the flags that say the same.
const FLAGS: [(&str, &str); 22] = [
    ("migrationId", "--migration-id"),
    ("sourceCluster", "--src"),
    ("sourceNamespace", "--namespace"),
    ("statefulSetName", "NAME"),
    ("destCluster", "--dst"),
    ("destNamespace", "--dst-namespace"),
    ("force", "--force"),
    ("order", "--order"),
    ("storageClassMap", "--storage-class-map"),
    ("createNamespace", "--create-namespace"),
    ("idleClaims", "--include-idle-claims or --leave-idle-claims"),
    ("detachTimeout", "--detach-timeout"),
    ("readyTimeout", "--ready-timeout"),
    ("commandTimeout", "--command-timeout"),
    ("beforePodCommand", "--before-pod-command"),
    ("verifyCommand", "--verify-command"),
    ("cutoverCommand", "--cutover-command"),
    ("until", "--until"),
    ("pauseAfter", "--pause-after"),
    ("acceptUncleanDetach", "--accept-unclean-detach"),
    ("profile", "--profile"),
    ("region", "--region"),
];

/// Returns the names of all fields of `spec`.
pub(super) fn fields() -> impl Iterator<Item = &'static str> + Clone {
    FLAGS.into_iter().map(|(field, _)| field)
}

/// Merges flags and document.
///
/// # Errors
/// A flag and the document contradict each other.
pub(crate) fn merge(flags: &Spec, document: &Spec) -> Result<Spec, Failure> {
    let flags = map(flags);
    let mut merged = map(document);
    for (field, given) in flags {
        if let Some(written) = merged.get(&field)
            && *written != given
        {
            let flag = FLAGS.iter().find(|(name, _)| *name == field).map_or("the flag", |(_, flag)| flag);
            return Err(Failure::usage(
                format!("{flag} says {given}, but `spec.{field}` of the document says {written}"),
                format!("leave {flag} out, or change the document"),
            ));
        }
        merged.insert(field, given);
    }
    Ok(serde_json::from_value(Value::Object(merged)).expect("both halves came from a Spec"))
}

fn map(spec: &Spec) -> Map<String, Value> {
    match serde_json::to_value(spec).expect("a Spec is plain data") {
        Value::Object(map) => map,
        _ => unreachable!("a struct is an object"),
    }
}

#[cfg(test)]
pub(super) use tests::full;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ClusterReference, Span};

    /// Returns a Spec with every field set.
    pub(crate) fn full() -> Spec {
        serde_json::from_value(serde_json::json!({
            "migrationId": "m", "sourceCluster": { "context": "a" }, "sourceNamespace": "shop",
            "statefulSetName": "web", "destCluster": { "kubeConfig": "b.yaml" }, "destNamespace": "shop-b",
            "force": true, "order": "together", "storageClassMap": { "gp2": "gp3" }, "createNamespace": true,
            "idleClaims": "include", "detachTimeout": "5m", "readyTimeout": "90s", "commandTimeout": "1m",
            "beforePodCommand": "x", "verifyCommand": "y", "cutoverCommand": "z", "until": "swing",
            "pauseAfter": 0, "acceptUncleanDetach": ["node-1"], "profile": "p", "region": "eu-west-1",
        }))
        .expect("every field is right")
    }

    #[test]
    fn every_field_has_its_flag() {
        let named: Vec<&str> = fields().collect();
        assert_eq!(map(&full()).keys().map(String::as_str).collect::<Vec<_>>(), named);
    }

    #[test]
    fn flags_fill_what_the_document_leaves_open() {
        let flags = Spec { order: full().order, ..Spec::default() };
        let document = Spec { order: None, ..full() };
        assert_eq!(merge(&flags, &document), Ok(full()));
    }

    #[test]
    fn the_same_said_twice_is_no_contradiction() {
        assert_eq!(merge(&full(), &full()), Ok(full()));
    }

    #[test]
    fn a_contradiction_names_flag_and_field() {
        let flags = Spec { source_cluster: Some(ClusterReference::Context("c".into())), ..Spec::default() };
        let failure = merge(&flags, &full()).expect_err("a is not c");
        assert_eq!(
            failure.reason,
            r#"--src says {"context":"c"}, but `spec.sourceCluster` of the document says {"context":"a"}"#
        );
        let flags = Spec { detach_timeout: "6m".parse::<Span>().ok(), ..Spec::default() };
        let failure = merge(&flags, &full()).expect_err("6m is not 5m");
        assert_eq!(failure.reason, r#"--detach-timeout says "6m", but `spec.detachTimeout` of the document says "5m""#);
    }
}
