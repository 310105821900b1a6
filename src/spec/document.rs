//! The `StatefulSetMigration` document: one YAML or JSON document, every field known.

use serde::Deserialize as _;
use serde_json::Value;

use super::Spec;
use super::merge::fields;
use crate::names::did_you_mean;

/// API version of the document.
pub(crate) const API_VERSION: &str = "sts-migrate.io/v1alpha1";

/// Kind of the document.
pub(crate) const KIND: &str = "StatefulSetMigration";

/// Fields of a cluster reference.
const CLUSTER_FIELDS: [&str; 3] = ["context", "kubeConfig", "kubeConfigSecret"];

/// Parses a document.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) fn parse(text: &str) -> Result<Spec, (String, String)> {
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let document = Value::deserialize(document)
            .map_err(|error| (format!("this is no YAML: {error}"), "mend the file".to_owned()))?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    let [document] = documents.as_slice() else {
        let hint = "write one migration into one file".to_owned();
        return Err((format!("there must be one document, but there are {}", documents.len()), hint));
    };
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if document[field] != wanted {
            let found =
                if document[field].is_null() { "is missing".to_owned() } else { format!("is {}", document[field]) };
            return Err((format!("`{field}` {found}, not {wanted}"), format!("write `{field}: {wanted}`")));
        }
    }
    // `status` is what `status -o yaml` adds: printed documents can be fed back.
    known(document, "", ["apiVersion", "kind", "metadata", "spec", "status"])?;
    let spec = &document["spec"];
    known(spec, "spec.", fields())?;
    for cluster in ["sourceCluster", "destCluster"] {
        reference(&spec[cluster], cluster)?;
    }
    let Some(given) = spec.as_object() else {
        return Err(("`spec` is missing".to_owned(), "write `spec:` with at least `statefulSetName`".to_owned()));
    };
    for (field, value) in given {
        let alone = Value::Object([(field.clone(), value.clone())].into_iter().collect());
        serde_json::from_value::<Spec>(alone)
            .map_err(|error| (format!("`spec.{field}`: {error}"), format!("mend `spec.{field}`")))?;
    }
    Ok(serde_json::from_value(spec.clone()).expect("each field alone was right"))
}

/// Refuses fields that nobody knows.
fn known(
    value: &Value,
    path: &str,
    names: impl IntoIterator<Item = &'static str> + Clone,
) -> Result<(), (String, String)> {
    let Some(object) = value.as_object() else {
        return Ok(());
    };
    for field in object.keys() {
        if !names.clone().into_iter().any(|name| name == field) {
            return Err((format!("there is no field `{path}{field}`"), did_you_mean(field, names)));
        }
    }
    Ok(())
}

/// Checks that a cluster is named in exactly one way.
fn reference(value: &Value, cluster: &str) -> Result<(), (String, String)> {
    if value.is_null() {
        return Ok(());
    }
    known(value, &format!("spec.{cluster}."), CLUSTER_FIELDS)?;
    if value.as_object().is_some_and(|object| object.len() == 1) {
        return Ok(());
    }
    let hint = format!(
        "write one of `{cluster}: {{context: NAME}}`, `{{kubeConfig: FILE}}`, `{{kubeConfigSecret: NAMESPACE/NAME}}`"
    );
    Err((format!("`spec.{cluster}` must say in one way where the cluster is"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Order;
    use crate::spec::ClusterReference;

    const HEAD: &str = "apiVersion: sts-migrate.io/v1alpha1\nkind: StatefulSetMigration\n";

    fn reason(rest: &str) -> (String, String) {
        parse(&format!("{HEAD}{rest}")).expect_err("the document is wrong")
    }

    #[test]
    fn a_document_says_what_flags_say() {
        let text = "spec:\n  sourceCluster: {context: a}\n  destCluster: {kubeConfigSecret: ops/b}\n  statefulSetName: web\n  \
                    order: together\n  detachTimeout: 90s\nstatus:\n  phase: Failed\n";
        let spec = parse(&format!("{HEAD}{text}")).expect("the document is right");
        assert_eq!(spec.source_cluster, Some(ClusterReference::Context("a".into())));
        assert_eq!(spec.dest_cluster, Some(ClusterReference::KubeConfigSecret("ops/b".into())));
        assert_eq!(spec.order, Some(Order::Together));
        assert_eq!(spec.detach_timeout().as_secs(), 90);
        assert_eq!(spec.ready_timeout().as_secs(), 600);
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_nearest_name() {
        let (reason, hint) = reason("spec:\n  statefulsetName: web\n");
        assert_eq!(reason, "there is no field `spec.statefulsetName`");
        assert!(hint.starts_with("did you mean `statefulSetName`"), "{hint}");
    }

    #[test]
    fn a_wrong_kind_is_refused() {
        let (reason, hint) = parse("apiVersion: apps/v1\nkind: StatefulSet\n").expect_err("wrong kind");
        assert_eq!(reason, "`apiVersion` is \"apps/v1\", not sts-migrate.io/v1alpha1");
        assert_eq!(hint, "write `apiVersion: sts-migrate.io/v1alpha1`");
    }

    #[test]
    fn two_documents_in_one_file_are_refused() {
        let (reason, _) = reason(&format!("spec: {{}}\n---\n{HEAD}spec: {{}}\n"));
        assert_eq!(reason, "there must be one document, but there are 2");
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let (reason, _) = reason("spec:\n  order: both\n");
        assert_eq!(reason, "`spec.order`: unknown variant `both`, expected `one-by-one` or `together`");
        let (reason, _) = self::reason("spec:\n  readyTimeout: soon\n");
        assert_eq!(reason, "`spec.readyTimeout`: a duration is written like 90s or 5m");
    }

    #[test]
    fn a_cluster_is_named_in_one_way() {
        let (reason, _) = reason("spec:\n  destCluster: {context: b, kubeConfig: f}\n");
        assert_eq!(reason, "`spec.destCluster` must say in one way where the cluster is");
    }
}
