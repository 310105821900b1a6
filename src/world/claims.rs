//! Which claims a set's pods use: by constructed name, never by label, never parsed (§1.3, SS-8).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Kind, Object, Side, World};

/// Annotation that named the StorageClass before the field did; where it is set, it wins over the field.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Returns the name that the set's controller gives to the claim of a template and an ordinal.
pub fn claim_name(template: &str, set: &str, ordinal: i64) -> String {
    format!("{template}-{set}-{ordinal}")
}

impl Object {
    /// Returns the names of a set's claim templates, in their order.
    pub fn claim_templates(&self) -> impl Iterator<Item = &str> {
        self.array("/spec/volumeClaimTemplates")
            .iter()
            .filter_map(|template| template.pointer("/metadata/name")?.as_str())
    }

    /// Returns the first ordinal of a set; the API's default is 0.
    pub fn first_ordinal(&self) -> i64 {
        self.number("/spec/ordinals/start").unwrap_or(0)
    }

    /// Returns the claims that a set's pod template names itself, each once. A pod volume with the
    /// name of a claim template is replaced by it and names nothing.
    pub fn plain_claims(&self) -> Vec<&str> {
        let templates: BTreeSet<&str> = self.claim_templates().collect();
        let mut names = Vec::new();
        for volume in self.array("/spec/template/spec/volumes") {
            let is_replaced = volume["name"].as_str().is_some_and(|name| templates.contains(name));
            let claim = volume.pointer("/persistentVolumeClaim/claimName").and_then(Value::as_str);
            if let Some(claim) = claim.filter(|claim| !is_replaced && !names.contains(claim)) {
                names.push(claim);
            }
        }
        names
    }

    /// Returns the StorageClass of a claim, claim template or PV as Kubernetes reads it: the old
    /// annotation, else the field; none when neither is set.
    pub fn class(&self) -> Option<&str> {
        self.annotation(CLASS_ANNOTATION).or_else(|| self.text("/spec/storageClassName"))
    }
}

/// Returns the claims of a set's templates at ordinals out of `start … start+replicas-1` that are
/// there, by template, then ascending (SS-9).
pub fn idle_claims<'a>(set: &Object, side: Side, world: &'a World) -> Vec<&'a Object> {
    let first = set.first_ordinal();
    let range = first..first + set.replicas();
    let claims = template_claims(set, side, world).into_iter();
    claims.filter(|(ordinal, _)| !range.contains(ordinal)).map(|(_, claim)| claim).collect()
}

/// Returns the claims of a set's templates that are there with their ordinals, whatever these are, by
/// template, then ascending.
pub(crate) fn template_claims<'a>(set: &Object, side: Side, world: &'a World) -> Vec<(i64, &'a Object)> {
    let mut found = Vec::new();
    for template in set.claim_templates() {
        let stem = format!("{template}-{}-", set.name());
        let mut of_template: Vec<(i64, &Object)> = world
            .objects(side, Kind::PersistentVolumeClaim)
            .filter_map(|claim| {
                let ordinal: i64 = claim.name().strip_prefix(&stem)?.parse().ok()?;
                // Only a name that the controller would construct: `data-web-07` is nobody's.
                let is_constructed = ordinal >= 0 && claim.name() == claim_name(template, set.name(), ordinal);
                is_constructed.then_some((ordinal, claim))
            })
            .collect();
        of_template.sort_by_key(|(ordinal, _)| *ordinal);
        found.extend(of_template);
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(name: &str, templates: &[&str], replicas: i64) -> Object {
        let templates: Vec<_> = templates.iter().map(|name| json!({ "metadata": { "name": name } })).collect();
        Object(json!({
            "metadata": { "name": name },
            "spec": { "replicas": replicas, "ordinals": { "start": 1 }, "volumeClaimTemplates": templates },
        }))
    }

    fn world(claims: &[&str]) -> World {
        let mut world = World::default();
        let claims = claims.iter().map(|name| Object(json!({ "metadata": { "name": name } })));
        world.shelf_mut(Side::Source, Kind::PersistentVolumeClaim).put_list(1, claims);
        world
    }

    #[test]
    fn idle_claims_are_those_out_of_range_with_a_constructed_name() {
        let world = world(&[
            "data-web-0",
            "data-web-1",
            "data-web-2",
            "data-web-3",
            "data-web-10",
            "data-web-07",
            "data-web-+4",
            "data-web-0-1",
            "data-web-x",
            "data-web-",
            "logs-web-9",
        ]);
        let names = |set: &Object| -> Vec<String> {
            idle_claims(set, Side::Source, &world).iter().map(|claim| claim.name().to_owned()).collect()
        };
        assert_eq!(names(&set("web", &["data"], 2)), ["data-web-0", "data-web-3", "data-web-10"]);
        assert_eq!(names(&set("web-0", &["data"], 0)), ["data-web-0-1"]);
    }

    #[test]
    fn a_pod_volume_named_like_a_claim_template_names_nothing() {
        let mut set = set("web", &["data"], 1);
        set.0["spec"]["template"] = json!({ "spec": { "volumes": [
            { "name": "data", "persistentVolumeClaim": { "claimName": "replaced" } },
            { "name": "plain", "persistentVolumeClaim": { "claimName": "mine" } },
            { "name": "again", "persistentVolumeClaim": { "claimName": "mine" } },
            { "name": "scratch", "emptyDir": {} },
        ] } });
        assert_eq!(set.plain_claims(), ["mine"]);
    }
}
