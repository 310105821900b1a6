//! Property tests: whatever the objects of A look like, this holds of B's (I-4, I-5, I-13).

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::TestCaseError;
use serde_json::{Map, Value, json};

use super::metadata::BIND_ANNOTATIONS;
use super::samples::{DROPPED_KEYS, KEPT_KEYS, plan, service_plan, set_plan, volume_plan};
use super::{claim, claim_again, remarks, service, set, set_again, volume, volume_again};
use crate::plan::{MIGRATION_ANNOTATION, Plan, RECLAIM_POLICY_ANNOTATION, ServicePlan, SetPlan, VolumePlan};
use crate::world::{CLASS_ANNOTATION, GIB, Object, quantity_bytes};

/// Fields of metadata that nothing may be created with.
const SERVER_FIELDS: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
    "ownerReferences",
    "finalizers",
];

type Checked = Result<(), TestCaseError>;

/// Checks what holds of every object that is created in either cluster.
fn is_fresh(made: &Value, before: &Object) -> Checked {
    for field in SERVER_FIELDS {
        prop_assert!(made["metadata"].get(field).is_none(), "metadata.{} is there", field);
    }
    prop_assert!(made.get("status").is_none());
    prop_assert!(made["apiVersion"].is_string() && made["kind"].is_string());
    keeps_unknown(&before.0["metadata"], &made["metadata"])?;
    keeps_unknown(&before.0["spec"], &made["spec"])?;
    for map in ["labels", "annotations"] {
        for key in KEPT_KEYS {
            prop_assert_eq!(before.0["metadata"][map].get(key), made["metadata"][map].get(key), "{} {}", map, key);
        }
    }
    Ok(())
}

/// Checks what holds of every object that is created in B.
fn is_carried(plan: &Plan, made: &Value, before: &Object) -> Checked {
    is_fresh(made, before)?;
    for key in DROPPED_KEYS.into_iter().chain(["kubectl.kubernetes.io/last-applied-configuration"]) {
        let ours = [MIGRATION_ANNOTATION, RECLAIM_POLICY_ANNOTATION].contains(&key);
        prop_assert!(ours || made["metadata"]["labels"].get(key).is_none(), "label {} is there", key);
        prop_assert!(ours || made["metadata"]["annotations"].get(key).is_none(), "annotation {} is there", key);
    }
    prop_assert_eq!(&made["metadata"]["annotations"][MIGRATION_ANNOTATION], &plan.mark());
    Ok(())
}

fn keeps_unknown(before: &Value, made: &Value) -> Checked {
    let is_unknown = |(key, _): &(&String, &Value)| key.starts_with("unknown");
    for (key, value) in before.as_object().into_iter().flatten().filter(is_unknown) {
        prop_assert_eq!(made.get(key), Some(value), "{}", key);
    }
    Ok(())
}

fn is_unbound(made: &Value) -> Checked {
    for key in BIND_ANNOTATIONS {
        prop_assert!(made["metadata"]["annotations"].get(key).is_none(), "annotation {} is there", key);
    }
    Ok(())
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn without(value: &Value, dropped: &[&str]) -> Map<String, Value> {
    let mut map = value.as_object().cloned().unwrap_or_default();
    map.retain(|key, _| !dropped.contains(&key.as_str()));
    map
}

proptest! {
    // Failures are fixed, not remembered: a test writes nothing into the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_volume_in_the_destination_is_the_same_volume(plan in plan(), planned in volume_plan()) {
        let before = &planned.volume_before;
        let made = volume(&plan, &planned);
        is_carried(&plan, &made, before)?;
        is_unbound(&made)?;
        let spec = &made["spec"];
        prop_assert_eq!(Object(made.clone()).volume_id(), Some(planned.volume.clone()));
        prop_assert_eq!(&spec["csi"]["driver"], "ebs.csi.aws.com");
        prop_assert_eq!(&spec["csi"]["volumeHandle"], planned.volume.0.as_str());
        prop_assert!(spec.get("awsElasticBlockStore").is_none());
        prop_assert!(spec.get("volumeAttributesClassName").is_none());
        let source = before.at("/spec/csi").or_else(|| before.at("/spec/awsElasticBlockStore")).expect("it has one");
        prop_assert_eq!(spec["csi"].get("fsType"), source.get("fsType"));
        prop_assert_eq!(spec["csi"].get("readOnly"), source.get("readOnly"));
        prop_assert_eq!(spec["csi"].get("nodeStageSecretRef"), source.get("nodeStageSecretRef"));
        keeps_unknown(source, &spec["csi"])?;
        let attributes = match source["partition"].as_i64() {
            Some(partition) if partition > 0 => json!({ "partition": partition.to_string() }),
            _ => source["volumeAttributes"].clone(),
        };
        let identity = ["storage.kubernetes.io/csiProvisionerIdentity"];
        prop_assert_eq!(without(&spec["csi"]["volumeAttributes"], &[]), without(&attributes, &identity));
        prop_assert_eq!(&spec["volumeMode"], before.text("/spec/volumeMode").unwrap_or("Filesystem"));
        prop_assert_eq!(spec.get("accessModes"), before.at("/spec/accessModes"));
        prop_assert_eq!(spec.get("mountOptions"), before.at("/spec/mountOptions"));
        prop_assert_eq!(&spec["capacity"]["storage"], &format!("{}Gi", planned.size_gib));
        prop_assert_eq!(&spec["persistentVolumeReclaimPolicy"], "Retain");
        prop_assert_eq!(
            &spec["claimRef"],
            &json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "market", "name": "data-web-0" })
        );
        let terms = json!([{ "matchExpressions": [
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [planned.zone] },
        ] }]);
        prop_assert_eq!(&spec["nodeAffinity"], &json!({ "required": { "nodeSelectorTerms": terms } }));
        let made = Object(made);
        prop_assert_eq!(made.name(), &planned.destination_volume_name);
        prop_assert_eq!(made.namespace(), "");
        prop_assert_eq!(made.annotation(RECLAIM_POLICY_ANNOTATION), Some("Delete"));
        prop_assert_eq!(made.annotation("pv.kubernetes.io/provisioned-by"), Some("ebs.csi.aws.com"));
        prop_assert_eq!(made.annotation("pv.kubernetes.io/migrated-to"), None);
        prop_assert_eq!(made.label("failure-domain.beta.kubernetes.io/zone"), None);
    }

    #[test]
    fn a_claim_in_the_destination_asks_for_its_volume_and_nothing_else(plan in plan(), planned in volume_plan()) {
        let before = &planned.claim_before;
        let made = claim(&plan, &planned);
        is_carried(&plan, &made, before)?;
        is_unbound(&made)?;
        let spec = &made["spec"];
        prop_assert_eq!(&spec["volumeName"], &planned.destination_volume_name);
        prop_assert_eq!(spec.get("accessModes"), before.at("/spec/accessModes"));
        for field in ["selector", "dataSource", "dataSourceRef", "volumeAttributesClassName"] {
            prop_assert!(spec.get(field).is_none(), "{} is there", field);
        }
        let mode = before.text("/spec/volumeMode").or(planned.volume_before.text("/spec/volumeMode"));
        prop_assert_eq!(&spec["volumeMode"], mode.unwrap_or("Filesystem"));
        let request = spec["resources"]["requests"]["storage"].as_str().expect("it is asked for");
        let bytes = quantity_bytes(request).expect("it is a quantity");
        prop_assert!(bytes <= planned.size_gib as u128 * GIB, "{} of {} GiB", request, planned.size_gib);
        let asked = before.text("/spec/resources/requests/storage");
        let fits = asked.and_then(quantity_bytes).is_some_and(|bytes| bytes <= planned.size_gib as u128 * GIB);
        if fits {
            prop_assert_eq!(Some(request), asked);
        }
        prop_assert_eq!(&made["metadata"]["name"], "data-web-0");
        prop_assert_eq!(&made["metadata"]["namespace"], "market");
    }

    #[test]
    fn volume_and_claim_have_one_class_spelled_out(plan in plan(), planned in volume_plan()) {
        let (volume, claim) = (Object(volume(&plan, &planned)), Object(claim(&plan, &planned)));
        prop_assert!(claim.text("/spec/storageClassName").is_some());
        // The API shows a PV's empty class as missing, and the live object is compared with this one.
        let of_volume = volume.text("/spec/storageClassName");
        prop_assert!(of_volume != Some(""));
        prop_assert_eq!(claim.text("/spec/storageClassName"), Some(of_volume.unwrap_or_default()));
        for made in [&claim, &volume] {
            prop_assert_eq!(made.annotation(CLASS_ANNOTATION), None);
        }
        let before = planned.claim_before.class().or(planned.volume_before.class()).unwrap_or_default();
        let mapped = plan.choices.storage_class_map.get(before).map_or(before, String::as_str);
        prop_assert_eq!(claim.text("/spec/storageClassName"), Some(mapped));
    }

    #[test]
    fn translating_the_translation_changes_nothing(
        plan in plan(),
        planned in volume_plan(),
        of_set in set_plan(),
        of_service in service_plan(),
    ) {
        let made = (volume(&plan, &planned), claim(&plan, &planned));
        let again = VolumePlan {
            volume_before: Object(made.0.clone()),
            claim_before: Object(made.1.clone()),
            ..planned
        };
        prop_assert_eq!((volume(&plan, &again), claim(&plan, &again)), made);

        let made = set(&plan, &of_set);
        let again = SetPlan { before: Object(made.clone()), ..of_set };
        prop_assert_eq!(set(&plan, &again), made);

        let made = service(&plan, &of_service);
        let again = ServicePlan { before: Object(made.clone()), ..of_service };
        prop_assert_eq!(service(&plan, &again), made);
    }

    #[test]
    fn a_set_in_the_destination_starts_at_nothing_and_is_the_same_else(plan in plan(), planned in set_plan()) {
        let before = &planned.before;
        let made = set(&plan, &planned);
        is_carried(&plan, &made, before)?;
        prop_assert_eq!(&made["spec"]["replicas"], 0);
        let retain = json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
        prop_assert_eq!(&made["spec"]["persistentVolumeClaimRetentionPolicy"], &retain);
        let own = ["replicas", "persistentVolumeClaimRetentionPolicy", "volumeClaimTemplates"];
        prop_assert_eq!(without(&made["spec"], &own), without(&before.0["spec"], &own));
        let templates = before.array("/spec/volumeClaimTemplates");
        let made_templates = Object(made.clone()).array("/spec/volumeClaimTemplates").to_vec();
        prop_assert_eq!(made_templates.len(), templates.len());
        for (before, made) in templates.iter().zip(&made_templates) {
            prop_assert_eq!(keys(made), ["apiVersion", "kind", "metadata", "spec"]);
            for field in ["ownerReferences", "creationTimestamp"] {
                prop_assert!(made["metadata"].get(field).is_none(), "{} is there", field);
            }
            let (dropped, class) = (["volumeName", "selector", "dataSource", "dataSourceRef"], ["storageClassName"]);
            let all: Vec<&str> = dropped.into_iter().chain(class).collect();
            for field in dropped {
                prop_assert!(made["spec"].get(field).is_none(), "{} is there", field);
            }
            prop_assert_eq!(without(&made["spec"], &class), without(&before["spec"], &all));
            prop_assert_eq!(made["metadata"].get("labels"), before["metadata"].get("labels"));
            let mapped = |class: Option<&Value>| {
                class.and_then(Value::as_str).map(|class| plan.choices.storage_class_map.get(class).map_or(class, String::as_str).to_owned())
            };
            let class_of = |spec: &Value| spec["spec"].get("storageClassName").cloned();
            prop_assert_eq!(class_of(made), mapped(class_of(before).as_ref()).map(Value::from));
            let noted = |template: &Value| template["metadata"]["annotations"].get(CLASS_ANNOTATION).cloned();
            prop_assert_eq!(noted(made), mapped(noted(before).as_ref()).map(Value::from));
        }
    }

    #[test]
    fn a_service_in_the_destination_has_no_address_of_the_source(plan in plan(), planned in service_plan()) {
        let before = &planned.before;
        let made = service(&plan, &planned);
        is_carried(&plan, &made, before)?;
        let spec = &made["spec"];
        prop_assert!(spec.get("healthCheckNodePort").is_none());
        prop_assert!(spec.get("ipFamilies").is_none());
        let headless = before.text("/spec/clusterIP") == Some("None");
        prop_assert_eq!(spec.get("clusterIP").cloned(), headless.then(|| json!("None")));
        prop_assert_eq!(spec.get("clusterIPs").cloned(), headless.then(|| json!(["None"])));
        let single = before.text("/spec/ipFamilyPolicy") == Some("SingleStack");
        prop_assert_eq!(spec.get("ipFamilyPolicy"), before.at("/spec/ipFamilyPolicy").filter(|_| !single));
        let keeps_port = before.text("/spec/type") != Some("LoadBalancer");
        prop_assert_eq!(spec["ports"][0].get("nodePort").cloned(), keeps_port.then(|| json!(30_080)));
        prop_assert_eq!(&spec["ports"][0]["unknownField"], true);
        let own = ["healthCheckNodePort", "ipFamilies", "ipFamilyPolicy", "clusterIP", "clusterIPs", "ports"];
        prop_assert_eq!(without(spec, &own), without(&before.0["spec"], &own));
    }

    #[test]
    fn the_source_gets_back_what_it_had(plan in plan(), planned in volume_plan(), of_set in set_plan()) {
        let made = volume_again(&plan, &planned);
        let before = &planned.volume_before;
        is_fresh(&made, before)?;
        is_unbound(&made)?;
        prop_assert_eq!(&made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        prop_assert_eq!(keys(&made["spec"]["claimRef"]), ["apiVersion", "kind", "name", "namespace"]);
        prop_assert_eq!(&made["spec"]["claimRef"]["namespace"], "shop");
        let own = ["persistentVolumeReclaimPolicy", "claimRef"];
        prop_assert_eq!(without(&made["spec"], &own), without(&before.0["spec"], &own));
        let made = Object(made);
        prop_assert_eq!(made.name(), "pvc-1");
        let mark = plan.mark();
        prop_assert_eq!(made.annotation(MIGRATION_ANNOTATION), Some(mark.as_str()));
        prop_assert_eq!(made.annotation(RECLAIM_POLICY_ANNOTATION), Some("Delete"));

        let made = claim_again(&plan, &planned);
        let before = &planned.claim_before;
        is_fresh(&made, before)?;
        is_unbound(&made)?;
        prop_assert_eq!(&made["spec"]["volumeName"], "pvc-1");
        prop_assert_eq!(&made["metadata"]["namespace"], "shop");
        let own: &[&str] = if before.class().is_none() { &["storageClassName"] } else { &[] };
        prop_assert_eq!(without(&made["spec"], own), without(&before.0["spec"], own));
        prop_assert!(Object(made.clone()).class().is_some());
        prop_assert!(Object(made).annotation(MIGRATION_ANNOTATION).is_none());

        let made = set_again(&plan, &of_set);
        is_fresh(&made, &of_set.before)?;
        prop_assert_eq!(&made["spec"], &of_set.before.0["spec"]);
        prop_assert_eq!(&made["metadata"]["namespace"], "shop");
        let own: Vec<&str> = vec![MIGRATION_ANNOTATION, RECLAIM_POLICY_ANNOTATION];
        let before = &of_set.before.0["metadata"];
        prop_assert_eq!(without(&made["metadata"]["labels"], &[]), without(&before["labels"], &[]));
        prop_assert_eq!(without(&made["metadata"]["annotations"], &[]), without(&before["annotations"], &own));
    }

    #[test]
    fn remarks_are_made_of_anything(planned in volume_plan(), of_set in set_plan(), of_service in service_plan()) {
        let mut plan = crate::fixtures::plan(1, 1);
        let set = SetPlan { services: vec![of_service], ..of_set };
        plan.sets = vec![set];
        plan.sets[0].ordinals[0].volumes = vec![planned];
        let said = remarks(&plan);
        prop_assert!(said.iter().any(|remark| remark.contains("`dataSource` is dropped")), "{said:?}");
        prop_assert!(said.iter().any(|remark| remark.contains("VolumeAttributesClass `fast` is dropped")), "{said:?}");
    }
}
