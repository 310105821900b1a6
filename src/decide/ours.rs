//! Ours, ours but changed, or foreign.

use crate::plan::{MIGRATION_ANNOTATION, Plan};
use crate::world::{Kind, Object};

/// Whose an object in B is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Of this migration, as it was made.
    Ours,
    /// Of this migration, but changed in what safety hangs on.
    Changed(Vec<String>),
    /// Somebody else's.
    Foreign,
}

/// Returns whose a live object is, compared with the one that the plan would create. Going forward
/// only the fields that safety hangs on are compared: webhooks and defaults change the rest, and may.
pub fn ownership(plan: &Plan, kind: Kind, live: &Object, wanted: &Object) -> Ownership {
    if live.annotation(MIGRATION_ANNOTATION) != Some(plan.mark().as_str()) {
        return Ownership::Foreign;
    }
    let compared: &[&str] = match kind {
        Kind::PersistentVolume => &[
            "/spec/csi/driver",
            "/spec/csi/volumeHandle",
            "/spec/csi/fsType",
            "/spec/csi/readOnly",
            "/spec/volumeMode",
            "/spec/storageClassName",
            "/spec/claimRef/namespace",
            "/spec/claimRef/name",
        ],
        Kind::PersistentVolumeClaim => &["/spec/volumeName", "/spec/storageClassName", "/spec/volumeMode"],
        Kind::StatefulSet => {
            &["/spec/selector", "/spec/serviceName", "/spec/podManagementPolicy", "/spec/ordinals/start"]
        }
        _ => &[],
    };
    let mut differences: Vec<String> = compared
        .iter()
        .filter(|pointer| wanted.at(pointer).is_some() && live.at(pointer) != wanted.at(pointer))
        .map(|pointer| {
            let shown = |object: &Object| object.at(pointer).map_or("nothing".to_owned(), ToString::to_string);
            format!("{} is {}, not {}", &pointer[1..].replace('/', "."), shown(live), shown(wanted))
        })
        .collect();
    if kind == Kind::StatefulSet {
        differences.extend(template_differences(live, wanted));
    }
    if differences.is_empty() { Ownership::Ours } else { Ownership::Changed(differences) }
}

fn template_differences(live: &Object, wanted: &Object) -> Option<String> {
    let names = |object: &Object| -> Vec<String> {
        let templates = object.array("/spec/volumeClaimTemplates").iter();
        templates.filter_map(|template| Some(template.pointer("/metadata/name")?.as_str()?.to_owned())).collect()
    };
    let (found, planned) = (names(live), names(wanted));
    (found != planned)
        .then(|| format!("spec.volumeClaimTemplates are {}, not {}", found.join(", "), planned.join(", ")))
}
