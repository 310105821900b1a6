//! Stored plans that are no longer wanted: what a killed run left half-written, and ended migrations'.
//!
//! The index goes first: what is left of a plan without it is no plan. Only ever under the lock.

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::Value;

use crate::act;
use crate::connect::{Cluster, Endpoints, path};
use crate::observe;
use crate::plan::{MIGRATION_ANNOTATION, Plan};
use crate::record::secrets::{index_name, is_index_of, to_secrets};
use crate::record::{MANAGED_BY, MANAGED_BY_LABEL, Record};
use crate::world::{Kind, Object, Side};

/// Why the place for a plan could not be made ready.
#[derive(Debug)]
pub(crate) enum Untidy {
    /// Another plan of the same migration is stored.
    OtherPlan(Side),
    /// A server refuses, or has no answer.
    Failed(anyhow::Error),
}

/// Makes sure that what is stored under the plan's names is this plan, whole or in part, or nothing.
///
/// What an ended migration left is deleted, and parts of a plan that was never finished.
pub(crate) async fn tidy(endpoints: &Endpoints, plan: &Plan) -> Result<(), Untidy> {
    for side in Side::BOTH {
        let cluster = endpoints.cluster(side);
        let stem = plan.stem();
        let found = stored(cluster, &stem).await.map_err(Untidy::Failed)?;
        let stale = match found.iter().find(|secret| secret.name() == index_name(&stem)) {
            Some(index) if is_marked(index, plan) && !is_index_of(index, plan) => {
                return Err(Untidy::OtherPlan(side));
            }
            Some(index) if is_marked(index, plan) => Vec::new(),
            // Another migration's: history when that has ended; else `decide` says what it is.
            Some(_) if has_ended(cluster, &stem).await.map_err(Untidy::Failed)? => found,
            Some(_) => Vec::new(),
            None => unlike(found, &to_secrets(plan, &stem, &cluster.namespace)),
        };
        delete(cluster, &stem, stale).await.map_err(Untidy::Failed)?;
    }
    Ok(())
}

/// Deletes the plan of a migration that has ended, in both clusters.
///
/// # Errors
/// A server refuses, or has no answer; the next migration finds the rest.
pub(crate) async fn drop_plan(endpoints: &Endpoints, plan: &Plan) -> anyhow::Result<()> {
    for side in Side::BOTH {
        let (cluster, stem) = (endpoints.cluster(side), plan.stem());
        let mut found = stored(cluster, &stem).await?;
        found.retain(|secret| is_marked(secret, plan));
        delete(cluster, &stem, found).await?;
    }
    Ok(())
}

/// Deletes parts of plans whose index is gone, in both clusters: before-images are nobody's to keep.
///
/// # Errors
/// A server refuses, or has no answer.
pub(crate) async fn drop_parts(endpoints: &Endpoints, stem: &str) -> anyhow::Result<()> {
    for side in Side::BOTH {
        let cluster = endpoints.cluster(side);
        let found = stored(cluster, stem).await?;
        if !found.iter().any(|secret| secret.name() == index_name(stem)) {
            delete(cluster, stem, found).await?;
        }
    }
    Ok(())
}

async fn stored(cluster: &Cluster, stem: &str) -> anyhow::Result<Vec<Object>> {
    let selector = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
    let listed = observe::list(cluster, Kind::Secret, Some(&selector)).await;
    let mut secrets = listed.map_err(|unknown| anyhow!("list the plan's Secrets: {}", unknown.reason))?;
    secrets.retain(|secret| belongs(secret.name(), stem));
    Ok(secrets)
}

/// Returns whether a Secret is the index or a part of the plan of this stem.
fn belongs(secret: &str, stem: &str) -> bool {
    let index = index_name(stem);
    let part = secret.strip_prefix(&index).and_then(|rest| rest.strip_prefix('-'));
    secret == index || part.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_marked(secret: &Object, plan: &Plan) -> bool {
    secret.annotation(MIGRATION_ANNOTATION) == Some(plan.mark().as_str())
}

/// Returns the Secrets that are not what this plan would store under their names.
fn unlike(found: Vec<Object>, wanted: &[Value]) -> Vec<Object> {
    let wanted: BTreeMap<&str, &Value> = wanted
        .iter()
        .map(|secret| (secret["metadata"]["name"].as_str().unwrap_or_default(), &secret["data"]))
        .collect();
    found.into_iter().filter(|secret| wanted.get(secret.name()).copied() != secret.at("/data")).collect()
}

async fn has_ended(cluster: &Cluster, stem: &str) -> anyhow::Result<bool> {
    let found = observe::get(cluster, Kind::ConfigMap, stem).await;
    let found = found.map_err(|unknown| anyhow!("read the record: {}", unknown.reason))?;
    Ok(found.and_then(|config_map| Record::read(&config_map).ok()).is_some_and(|record| !record.is_open()))
}

async fn delete(cluster: &Cluster, stem: &str, mut secrets: Vec<Object>) -> anyhow::Result<()> {
    secrets.sort_by_key(|secret| secret.name() != index_name(stem));
    for secret in secrets {
        let at = path(Kind::Secret, &cluster.namespace, Some(secret.name()));
        match cluster.call(act::delete(at, secret.uid(), secret.resource_version(), false)).await {
            Ok(_) => {}
            Err(error) if error.is_not_found(Kind::Secret, secret.name()) => {}
            Err(error) => return Err(anyhow!("delete Secret `{}` of `{}`: {error}", secret.name(), cluster.context)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::{Subject, stem};

    #[test]
    fn only_the_plans_own_secrets_belong_to_it() {
        let stem = stem(Subject::Set, "web");
        assert!(belongs(&format!("{stem}-plan"), &stem));
        assert!(belongs(&format!("{stem}-plan-12"), &stem));
        assert!(!belongs(&format!("{stem}-plan-"), &stem));
        assert!(!belongs(&format!("{stem}-plan-b"), &stem));
        assert!(!belongs(&format!("{stem}-planner"), &stem));
    }

    #[test]
    fn parts_of_another_plan_are_told_from_this_ones() {
        let secret = |name: &str, part: &str| json!({ "metadata": { "name": name }, "data": { "part": part } });
        let wanted = [secret("p-0", "x"), secret("p-1", "y")];
        let found = vec![Object(secret("p-0", "x")), Object(secret("p-1", "z")), Object(secret("p-2", "x"))];
        let names: Vec<String> = unlike(found, &wanted).iter().map(|secret| secret.name().to_owned()).collect();
        assert_eq!(names, ["p-1", "p-2"]);
    }
}
