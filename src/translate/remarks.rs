//! What the translation drops or changes and a person should know of, said once per kind of change.

use serde_json::Value;

use super::claim::request;
use super::metadata::is_tracking;
use super::set::DROPPED_TEMPLATE_FIELDS;
use super::volume::source_class;
use crate::plan::{Plan, ServicePlan, SetPlan, VolumePlan, publishes};
use crate::world::{CLASS_ANNOTATION, Object, OwnerReference, gib_quantity};

/// How many objects a remark names before it counts the rest: a set may have thousands of claims.
const NAMED: usize = 3;

/// Finalizers that those who need them put back: dropping them is no news.
const KNOWN_FINALIZERS: [&str; 10] = [
    "kubernetes.io/",
    "external-attacher/",
    "external-provisioner.",
    "external-resizer.",
    "snapshot.storage.kubernetes.io/",
    "service.kubernetes.io/",
    "service.k8s.aws/",
    "ingress.k8s.aws/",
    "foregroundDeletion",
    "orphan",
];

/// References of a CSI source to Secrets that must be there in B too.
const SECRET_REFERENCES: [&str; 5] = [
    "nodeStageSecretRef",
    "nodePublishSecretRef",
    "controllerPublishSecretRef",
    "controllerExpandSecretRef",
    "nodeExpandSecretRef",
];

/// Returns what of A's objects B's will not have or have otherwise, as sentences for a person.
pub fn remarks(plan: &Plan) -> Vec<String> {
    let mut remarks = Remarks::default();
    for set in &plan.sets {
        remarks.of_set(set);
        for volume in set.volumes() {
            remarks.of_volume(volume);
            remarks.of_claim(set, volume);
        }
        for service in set.services.iter().filter(|service| !service.existing) {
            remarks.of_service(set, service);
        }
    }
    remarks.sentences()
}

/// Remarks so far: kind of object and what is said of it, with the names it is said of.
#[derive(Default)]
struct Remarks {
    groups: Vec<(&'static str, String, Vec<String>)>,
}

impl Remarks {
    fn add(&mut self, kind: &'static str, name: &str, text: impl Into<String>) {
        let text = text.into();
        let found = self.groups.iter_mut().find(|(of_kind, said, _)| *of_kind == kind && *said == text);
        match found {
            Some((_, _, names)) => names.push(name.to_owned()),
            None => self.groups.push((kind, text, vec![name.to_owned()])),
        }
    }

    fn sentences(self) -> Vec<String> {
        let sentence = |(kind, text, names): (&str, String, Vec<String>)| {
            let named: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let rest = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{kind} {}{rest}: {text}", named.join(", "))
        };
        self.groups.into_iter().map(sentence).collect()
    }

    fn of_set(&mut self, set: &SetPlan) {
        const KIND: &str = "StatefulSet";
        self.of_metadata(KIND, &set.before, |_| false);
        for template in set.before.array("/spec/volumeClaimTemplates") {
            let template = Object(template.clone());
            let name = template.name();
            for field in DROPPED_TEMPLATE_FIELDS {
                if template.at(&format!("/spec/{field}")).is_some() {
                    let text = format!("`{field}` of claim template `{name}` is dropped, it would reach later claims");
                    self.add(KIND, &set.name, text);
                }
            }
            if template.at("/metadata/ownerReferences").is_some() {
                let text =
                    format!("owner references of claim template `{name}` are dropped, they would reach later claims");
                self.add(KIND, &set.name, text);
            }
            if template.class().is_none() {
                let text = format!(
                    "claim template `{name}` names no StorageClass and stays so: the destination's default decides for \
                     later scale-ups"
                );
                self.add(KIND, &set.name, text);
            }
            if let Some(class) = template.text("/spec/volumeAttributesClassName") {
                let text = format!(
                    "claim template `{name}` keeps VolumeAttributesClass `{class}`, which later scale-ups need in the \
                     destination"
                );
                self.add(KIND, &set.name, text);
            }
        }
    }

    fn of_volume(&mut self, volume: &VolumePlan) {
        const KIND: &str = "PersistentVolume";
        let (before, name) = (&volume.volume_before, volume.source_volume_name.as_str());
        self.of_metadata(KIND, before, |_| false);
        if volume.destination_volume_name != name {
            let text =
                format!("is called `{}` in the destination, its name is taken there", volume.destination_volume_name);
            self.add(KIND, name, text);
        }
        if before.at("/spec/awsElasticBlockStore").is_some() {
            self.add(KIND, name, "in-tree `awsElasticBlockStore` becomes the CSI form");
        }
        if let Some(class) = before.text("/spec/volumeAttributesClassName") {
            self.add(KIND, name, format!("VolumeAttributesClass `{class}` is dropped"));
        }
        let classes = (volume.claim_before.class(), before.class());
        if let (Some(of_claim), Some(of_volume)) = classes
            && of_claim != of_volume
        {
            let text = format!("StorageClass `{of_volume}` gives way to its claim's, `{of_claim}`");
            self.add(KIND, name, text);
        }
        for field in SECRET_REFERENCES {
            if let Some(secret) = before.text(&format!("/spec/csi/{field}/name")) {
                let namespace = before.text(&format!("/spec/csi/{field}/namespace")).unwrap_or_default();
                self.add(KIND, name, format!("`{field}` needs Secret `{namespace}/{secret}` in the destination"));
            }
        }
    }

    fn of_claim(&mut self, set: &SetPlan, volume: &VolumePlan) {
        const KIND: &str = "PersistentVolumeClaim";
        let (before, name) = (&volume.claim_before, volume.claim.as_str());
        let is_own = |owner: &OwnerReference<'_>| {
            owner.uid == set.uid()
                || (owner.kind == "Pod"
                    && set.ordinals.iter().any(|ordinal| owner.name == set.pod_name(ordinal.ordinal)))
        };
        self.of_metadata(KIND, before, is_own);
        for field in ["selector", "dataSource", "dataSourceRef"] {
            if before.at(&format!("/spec/{field}")).is_some() {
                self.add(KIND, name, format!("`{field}` is dropped, the volume is named instead"));
            }
        }
        if let Some(class) = before.text("/spec/volumeAttributesClassName") {
            self.add(KIND, name, format!("VolumeAttributesClass `{class}` is dropped"));
        }
        if let (Some(annotation), Some(field)) =
            (before.annotation(CLASS_ANNOTATION), before.text("/spec/storageClassName"))
            && annotation != field
        {
            let text = format!("StorageClass `{annotation}` of the old annotation counts, not `{field}` of the field");
            self.add(KIND, name, text);
        }
        if before.class().is_none() {
            let class = source_class(volume);
            self.add(KIND, name, format!("names no StorageClass, gets its PersistentVolume's, `{class}`"));
        }
        let asked = before.text("/spec/resources/requests/storage").unwrap_or_default();
        if asked != request(volume) {
            let size = gib_quantity(volume.size_gib);
            self.add(KIND, name, format!("request of `{asked}` is lowered to the volume's size, `{size}`"));
        }
    }

    fn of_service(&mut self, set: &SetPlan, service: &ServicePlan) {
        let (before, name) = (&service.before, service.before.name());
        let kind = service.kind().name();
        self.of_metadata(kind, before, |_| false);
        if service.kind() != crate::world::Kind::Service {
            return;
        }
        let families: Vec<&str> = before.array("/spec/ipFamilies").iter().filter_map(Value::as_str).collect();
        if families == ["IPv6"] {
            self.add(kind, name, "its IP family, IPv6, is not carried over: the destination's default decides");
        }
        for port in &service.taken_node_ports {
            self.add(kind, name, format!("node port {port} is taken in the destination, which chooses another"));
        }
        if set.before.text("/spec/serviceName") == Some(name) && publishes(before) {
            let text =
                "governs the set and so must be there before its pods: what it publishes, it publishes from then on";
            self.add(kind, name, text);
        }
    }

    fn of_metadata(&mut self, kind: &'static str, before: &Object, is_own: impl Fn(&OwnerReference<'_>) -> bool) {
        let name = before.name();
        for owner in before.owners().filter(|owner| !is_own(owner)) {
            self.add(kind, name, format!("its owner, {} `{}`, stays behind", owner.kind, owner.name));
        }
        for finalizer in before.finalizers() {
            if !KNOWN_FINALIZERS.iter().any(|known| finalizer.starts_with(known)) {
                self.add(kind, name, format!("finalizer `{finalizer}` is dropped"));
            }
        }
        let keys = |map: &str| before.at(map).and_then(Value::as_object).into_iter().flat_map(|map| map.keys());
        let tracked = keys("/metadata/annotations").chain(keys("/metadata/labels")).find(|key| is_tracking(key));
        if let Some(key) = tracked {
            let tool = if key.starts_with("argocd.") { "Argo CD" } else { "Flux" };
            self.add(kind, name, format!("tracking ids of {tool} are dropped"));
        }
    }
}
