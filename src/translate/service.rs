//! B's Services and Ingresses: A's without what A's own network gave them (DS-5).

use serde_json::{Map, Value};

use super::metadata::{Target, assembled, carried, spec_of};
use crate::plan::{MIGRATION_ANNOTATION, Plan, ServicePlan};
use crate::world::Kind;

/// Returns B's Service or Ingress.
pub fn service(plan: &Plan, service: &ServicePlan) -> Value {
    let before = &service.before;
    let target = Target {
        name: before.name(),
        namespace: Some(&plan.destination.namespace),
        annotations: &[(MIGRATION_ANNOTATION, &plan.mark())],
    };
    let metadata = carried(&before.0, &[], &target);
    let mut spec = spec_of(&before.0);
    let kind = service.kind();
    if kind == Kind::Service {
        clean_service(service, &mut spec);
    }
    assembled(&before.0, kind.api_version(), kind.name(), metadata, spec)
}

fn clean_service(service: &ServicePlan, spec: &mut Map<String, Value>) {
    let before = &service.before;
    spec.shift_remove("healthCheckNodePort");
    if before.text("/spec/clusterIP") != Some("None") {
        spec.shift_remove("clusterIP");
        spec.shift_remove("clusterIPs");
    }
    // Which families there are, and which comes first, is B's network's to say; that there shall be two stays.
    spec.shift_remove("ipFamilies");
    if before.text("/spec/ipFamilyPolicy") == Some("SingleStack") {
        spec.shift_remove("ipFamilyPolicy");
    }
    // Of a NodePort Service the ports are what clients know; of a LoadBalancer one they are A's own choice.
    let are_own_choice = before.text("/spec/type") == Some("LoadBalancer");
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten();
    for port in ports.filter_map(Value::as_object_mut) {
        let number = port.get("nodePort").and_then(Value::as_i64);
        if are_own_choice || number.is_some_and(|number| service.taken_node_ports.contains(&number)) {
            port.shift_remove("nodePort");
        }
    }
}
