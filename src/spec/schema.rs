//! The JSON schema of the `StatefulSetMigration` document, derived from the types that read it.
//!
//! Editors complete and check documents by it. The fields' descriptions are the types' own.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::document::{API_VERSION, KIND};
use super::{ClusterReference, Spec};

/// Returns the schema.
pub(crate) fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let spec = generator.subschema_for::<Spec>();
    let cluster = generator.subschema_for::<ClusterReference>();
    debug_assert!(cluster.get("$ref").is_some(), "clusters are a definition of their own");
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        "description": "One migration, as `-f` takes it and `status -o yaml` prints it. What it leaves open flags may say; a flag that contradicts it is refused.",
        "type": "object",
        "properties": {
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": KIND },
            "metadata": { "description": "For people and tools; not read.", "type": "object" },
            "spec": spec,
            "status": { "description": "Printed by `status`; not read.", "type": "object" },
        },
        "required": ["apiVersion", "kind", "spec"],
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::spec::merge::fields;
    use crate::spec::parse;

    /// Returns whether a value is valid: the keywords that the schema uses, and no others.
    fn is_valid(schema: &Value, value: &Value, definitions: &Value) -> bool {
        let Value::Object(keywords) = schema else { return schema == &json!(true) };
        keywords.iter().all(|(keyword, wanted)| match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" | "examples" => true,
            "$ref" => {
                let name = wanted.as_str().and_then(|it| it.strip_prefix("#/$defs/")).expect("a definition");
                is_valid(&definitions[name], value, definitions)
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "type" => match wanted {
                Value::Array(any) => any.iter().any(|it| is_of_type(it, value)),
                one => is_of_type(one, value),
            },
            "anyOf" => wanted.as_array().is_some_and(|any| any.iter().any(|it| is_valid(it, value, definitions))),
            "oneOf" => {
                let all = wanted.as_array().expect("a list");
                all.iter().filter(|it| is_valid(it, value, definitions)).count() == 1
            }
            "properties" => properties(wanted, value)
                .all(|(name, schema)| value.get(name).is_none_or(|it| is_valid(schema, it, definitions))),
            "additionalProperties" => {
                let known = schema["properties"].as_object().cloned().unwrap_or_default();
                let rest = value.as_object().into_iter().flatten().filter(|(name, _)| !known.contains_key(*name));
                rest.into_iter().all(|(_, it)| is_valid(wanted, it, definitions))
            }
            "required" => wanted
                .as_array()
                .is_some_and(|all| all.iter().all(|name| value.get(name.as_str().unwrap_or_default()).is_some())),
            "items" => value.as_array().is_none_or(|all| all.iter().all(|it| is_valid(wanted, it, definitions))),
            "pattern" => value.as_str().is_none_or(|text| text.parse::<crate::spec::Span>().is_ok()),
            "minimum" => value.as_i64().is_none_or(|number| Some(number) >= wanted.as_i64()),
            other => panic!("the schema uses `{other}`, which this test does not know"),
        })
    }

    fn properties<'a>(wanted: &'a Value, value: &Value) -> impl Iterator<Item = (&'a String, &'a Value)> {
        wanted.as_object().into_iter().flatten().filter(|_| value.is_object())
    }

    fn is_of_type(name: &Value, value: &Value) -> bool {
        match name.as_str().unwrap_or_default() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("the schema uses type `{other}`"),
        }
    }

    /// Returns a document with these fields in its spec.
    fn document(spec: Value) -> Value {
        json!({ "apiVersion": API_VERSION, "kind": KIND, "spec": spec })
    }

    /// What is said of a document by the schema, and by the program.
    fn verdicts(document: &Value) -> (bool, bool) {
        let schema = schema();
        (is_valid(&schema, document, &schema["$defs"]), parse(&document.to_string()).is_ok())
    }

    #[test]
    fn it_has_the_fields_that_the_program_reads() {
        let schema = schema();
        let spec = &schema["$defs"]["Spec"];
        let named: Vec<&String> = spec["properties"].as_object().expect("fields").keys().collect();
        assert_eq!(named, fields().collect::<Vec<_>>());
        let described = |(_, field): (&String, &Value)| field["description"].is_string();
        assert!(spec["properties"].as_object().expect("fields").iter().all(described), "{spec:#}");
    }

    #[test]
    fn it_accepts_what_the_program_accepts() {
        let full = crate::spec::merge::full();
        let full = serde_json::to_value(full).expect("plain data");
        let all = full.as_object().expect("an object");
        assert_eq!(verdicts(&document(full.clone())), (true, true));
        for (field, value) in all {
            let alone: Map<String, Value> = [(field.clone(), value.clone())].into_iter().collect();
            assert_eq!(verdicts(&document(alone.into())), (true, true), "{field}");
        }
        for cluster in [json!({ "context": "a" }), json!({ "kubeConfig": "f" }), json!({ "kubeConfigSecret": "n/s" })] {
            assert_eq!(verdicts(&document(json!({ "sourceCluster": cluster }))), (true, true), "{cluster}");
        }
        let mut printed = document(json!({ "statefulSetName": "web" }));
        printed["metadata"] = json!({ "name": "web" });
        printed["status"] = json!({ "phase": "Completed" });
        assert_eq!(verdicts(&printed), (true, true));
    }

    #[test]
    fn it_accepts_the_example() {
        let example: Value =
            serde_yaml::from_str(include_str!("../../examples/migration.yaml")).expect("the example is YAML");
        assert_eq!(verdicts(&example), (true, true));
    }

    #[test]
    fn it_refuses_what_the_program_refuses() {
        let wrong = [
            json!({ "statefulsetName": "web" }),
            json!({ "order": "both" }),
            json!({ "until": "finalize" }),
            json!({ "idleClaims": "drop" }),
            json!({ "force": "yes" }),
            json!({ "detachTimeout": "soon" }),
            json!({ "readyTimeout": 90 }),
            json!({ "pauseAfter": "0" }),
            json!({ "pauseAfter": -1 }),
            json!({ "storageClassMap": ["gp2=gp3"] }),
            json!({ "acceptUncleanDetach": "node" }),
            json!({ "sourceCluster": "a" }),
            json!({ "sourceCluster": {} }),
            json!({ "sourceCluster": { "contxt": "a" } }),
            json!({ "sourceCluster": { "context": "a", "kubeConfig": "f" } }),
            json!([]),
        ];
        for spec in wrong {
            assert_eq!(verdicts(&document(spec.clone())), (false, false), "{spec}");
        }
        for (field, value) in [("kind", json!("StatefulSet")), ("apiVersion", json!("v1")), ("specs", json!({}))] {
            let mut document = document(json!({}));
            document[field] = value;
            assert_eq!(verdicts(&document), (false, false), "{document}");
        }
        assert_eq!(verdicts(&json!({ "apiVersion": API_VERSION, "kind": KIND })), (false, false));
    }
}
