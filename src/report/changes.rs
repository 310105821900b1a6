//! What somebody changed in B since it was made there: shown before rollback takes it away (§6).

use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::plan::{MIGRATION_ANNOTATION, Plan, SetPlan, UNHEEDED_ANNOTATIONS};
use crate::translate;
use crate::world::{Kind, Object, Side, World};

/// Fields that B's API server and controllers fill in where the translated object leaves them open.
const FILLED_IN: [&str; 7] =
    ["clusterIP", "clusterIPs", "healthCheckNodePort", "ipFamilies", "ipFamilyPolicy", "nodePort", "status"];

/// A value longer than this is cut: a line is to be read.
const COLUMNS: usize = 60;

/// Returns how B's set, Services and Ingresses of a migration differ from what was made there: a line for
/// each changed object, then one for each field, `was → is`. Labels, annotations and spec are compared.
pub(crate) fn changes(plan: &Plan, set: &SetPlan, world: &World) -> Vec<String> {
    let services = set.services.iter().map(|service| (service.kind(), translate::service(plan, service)));
    let all = std::iter::once((Kind::StatefulSet, translate::set(plan, set))).chain(services);
    let mut lines = Vec::new();
    for (kind, made) in all {
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        let found = world.object(Side::Destination, kind, name);
        let Some(found) = found.filter(|found| found.annotation(MIGRATION_ANNOTATION) == Some(&plan.mark())) else {
            continue;
        };
        let mut made = comparable(&Object(made.clone()));
        if kind == Kind::StatefulSet && found.replicas() <= set.replicas() {
            made["spec"]["replicas"] = found.replicas().into();
        }
        let fields = differences(&made, &comparable(found));
        if !fields.is_empty() {
            lines.push(format!("{kind} {name} in the destination is not as it was made (was → is):"));
            lines.extend(fields.iter().map(|field| format!("  {field}")));
        }
    }
    lines
}

/// Returns what is compared of an object.
fn comparable(object: &Object) -> Value {
    let metadata = |field: &str| {
        let mut map = object.at(&format!("/metadata/{field}")).and_then(Value::as_object).cloned().unwrap_or_default();
        map.retain(|key, _| !UNHEEDED_ANNOTATIONS.contains(&key.as_str()));
        Value::Object(map)
    };
    json!({
        "metadata": { "labels": metadata("labels"), "annotations": metadata("annotations") },
        "spec": object.at("/spec").cloned().unwrap_or_default(),
    })
}

/// Returns what was changed, field by field.
fn differences(made: &Value, found: &Value) -> Vec<String> {
    let mut before = made.clone();
    let mut lines = Vec::new();
    for operation in json_patch::diff(made, found).0 {
        let path = operation.path();
        let was = before.pointer(path.as_str());
        let is = match &operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            _ => None,
        };
        let field: Vec<String> = path.tokens().map(|token| token.decoded().into_owned()).collect();
        let is_filled_in = was.is_none() && field.last().is_some_and(|last| FILLED_IN.contains(&last.as_str()));
        if !is_filled_in && was.unwrap_or_default() != is.unwrap_or_default() {
            lines.push(format!("{}: {} → {}", field.join("."), shown(was), shown(is)));
        }
        json_patch::patch(&mut before, &[operation]).expect("a difference can be applied");
    }
    lines
}

fn shown(value: Option<&Value>) -> String {
    let text = value.map_or("nothing".to_owned(), Value::to_string);
    match text.char_indices().nth(COLUMNS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn fields_that_were_changed_added_or_removed_are_named() {
        let made = json!({ "spec": { "template": { "spec": {
            "containers": [{ "name": "db", "image": "db:1", "args": ["-v"] }], "nodeSelector": { "disk": "ssd" } } } } });
        let mut found = made.clone();
        let pod = &mut found["spec"]["template"]["spec"];
        pod["containers"][0]["image"] = "db:2".into();
        pod["nodeSelector"] = json!({});
        pod["priorityClassName"] = "high".into();
        let mut fields = differences(&made, &found);
        fields.sort();
        assert_eq!(
            fields,
            [
                r#"spec.template.spec.containers.0.image: "db:1" → "db:2""#,
                r#"spec.template.spec.nodeSelector.disk: "ssd" → nothing"#,
                r#"spec.template.spec.priorityClassName: nothing → "high""#,
            ]
        );
    }

    #[test]
    fn of_a_list_each_item_that_is_gone_is_named() {
        let made = json!({ "args": ["a", "b", "c"] });
        assert_eq!(
            differences(&made, &json!({ "args": ["a"] })),
            [r#"args.1: "b" → nothing"#, r#"args.1: "c" → nothing"#]
        );
    }

    #[test]
    fn what_the_server_fills_in_is_no_change() {
        let made = json!({ "spec": { "ports": [{ "port": 80 }] } });
        let found = json!({ "spec": { "clusterIP": "10.0.0.7", "ports": [{ "port": 80, "nodePort": 31000 }] } });
        assert!(differences(&made, &found).is_empty());
        assert_eq!(differences(&found, &made).len(), 2, "what a person took away is one");
    }

    #[test]
    fn only_what_is_ours_and_was_changed_is_named() {
        let plan = fixtures::plan(3, 1);
        let set = &plan.sets[0];
        let mut live = translate::set(&plan, set);
        live["spec"]["replicas"] = 2.into();
        live["spec"]["volumeClaimTemplates"][0]["status"] = json!({ "phase": "Pending" });
        live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}".into();
        let changed = |live: &Value| {
            let mut world = World::default();
            world.seq = 1;
            let shelf = world.shelf_mut(Side::Destination, Kind::StatefulSet);
            shelf.put(1, fixtures::SET, Ok(Some(Object(live.clone()))));
            changes(&plan, set, &world)
        };
        assert_eq!(changed(&live), Vec::<String>::new());
        live["spec"]["replicas"] = 4.into();
        assert_eq!(
            changed(&live),
            ["StatefulSet web in the destination is not as it was made (was → is):", "  spec.replicas: 0 → 4"]
        );
        live["metadata"]["annotations"][MIGRATION_ANNOTATION] = "another.1".into();
        assert_eq!(changed(&live), Vec::<String>::new(), "somebody else's stays, and is not shown");
    }

    #[test]
    fn long_values_are_cut() {
        let text = shown(Some(&"é".repeat(100).into()));
        assert_eq!(text.chars().count(), COLUMNS + 1, "{text}");
    }
}
