//! What the program keeps in the clusters: finds plan, record and Lease again, on any machine.
//!
//! The rules are in [`crate::record`]; this reads and writes the objects. The plan and the records'
//! turns are written by Actions of `decide`; only the reason of a pause is written here.

use anyhow::anyhow;
use http::Method;
use serde_json::{Value, json};

use crate::act;
use crate::connect::{Call, CallError, Cluster, Endpoints, path};
use crate::observe;
use crate::plan::Plan;
use crate::record::secrets::{from_secrets, index_name, part_count, part_name};
use crate::record::{MANAGED_BY, MANAGED_BY_LABEL, RECORD_KEY, Record, Subject, in_force, stem};
use crate::world::{Kind, Object, Side, Unknown};

mod fence;
mod lock;
mod plans;
mod process;

pub(crate) use fence::fence;
pub(crate) use lock::{Gained, HeldBy, Lock, LockError, LockProgress};
pub(crate) use plans::{Untidy, drop_parts, drop_plan, tidy};

/// What one cluster keeps of a migration.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The record, or why it cannot be read.
    pub(crate) record: Option<Result<Record, String>>,
    /// The plan, or why it cannot be read.
    pub(crate) plan: Option<Result<Plan, String>>,
}

/// A migration that a cluster's records name.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Namespace of the record.
    pub(crate) namespace: String,
    /// The record, or why it cannot be read.
    pub(crate) record: Result<Record, String>,
    /// What is moved, where the record's own name says it: long names are shortened there.
    pub(crate) subject: Option<(Subject, String)>,
}

/// Finds what a cluster keeps of a subject in a namespace.
///
/// # Errors
/// The API server has no answer.
pub(crate) async fn find(cluster: &Cluster, subject: Subject, name: &str) -> Result<Found, Unknown> {
    let stem = stem(subject, name);
    let index = index_name(&stem);
    let (record, index) =
        tokio::join!(observe::get(cluster, Kind::ConfigMap, &stem), observe::get(cluster, Kind::Secret, &index));
    let record = record?.map(|config_map| Record::read(&config_map).map_err(|error| format!("{error:#}")));
    let plan = match index? {
        Some(index) => Some(plan(cluster, &stem, &index).await?),
        None => None,
    };
    Ok(Found { record, plan })
}

async fn plan(cluster: &Cluster, stem: &str, index: &Object) -> Result<Result<Plan, String>, Unknown> {
    let count = match part_count(index) {
        Ok(count) => count,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let names: Vec<String> = (0..count).map(|number| part_name(stem, number)).collect();
    let parts = futures::future::join_all(names.iter().map(|name| observe::get(cluster, Kind::Secret, name))).await;
    let mut found = Vec::with_capacity(count);
    for (name, part) in names.iter().zip(parts) {
        match part? {
            Some(part) => found.push(part),
            None => return Ok(Err(format!("Secret `{name}`, a part of the plan, is gone"))),
        }
    }
    Ok(from_secrets(index, &found).map_err(|error| format!("{error:#}")))
}

/// Lists the migrations that a cluster has records of, open and ended ones: in one namespace, or in all.
///
/// # Errors
/// The API server has no answer.
pub(crate) async fn list(cluster: &Cluster, everywhere: bool) -> Result<Vec<Listed>, Unknown> {
    let selector = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
    let objects = if everywhere {
        observe::list_everywhere(cluster, Kind::ConfigMap, Some(&selector)).await?
    } else {
        observe::list(cluster, Kind::ConfigMap, Some(&selector)).await?
    };
    Ok(objects
        .iter()
        .filter(|object| object.at("/data").is_some_and(|data| data.get(RECORD_KEY).is_some()))
        .map(|object| Listed {
            namespace: object.namespace().to_owned(),
            record: Record::read(object).map_err(|error| format!("{error:#}")),
            subject: subject_of(object.name()),
        })
        .collect())
}

/// Reads the subject's name out of the record's, where that was not shortened.
fn subject_of(record_name: &str) -> Option<(Subject, String)> {
    let (rest, kind) = match record_name.strip_prefix("sts-migrate-set-") {
        Some(rest) => (rest, Subject::Set),
        None => (record_name.strip_prefix("sts-migrate-claim-")?, Subject::Claim),
    };
    let (name, _hash) = rest.rsplit_once('-')?;
    (stem(kind, name) == record_name).then(|| (kind, name.to_owned()))
}

/// Creates B's namespace when it is missing; it is never deleted.
///
/// # Errors
/// The API server refuses, or has no answer.
pub(crate) async fn ensure_namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let name = &cluster.namespace;
    let found = observe::get(cluster, Kind::Namespace, name).await;
    if found.map_err(|unknown| anyhow!("read namespace `{name}`: {}", unknown.reason))?.is_some() {
        return Ok(());
    }
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": { MANAGED_BY_LABEL: MANAGED_BY } },
    });
    let call = Call::with_body(Method::POST, path(Kind::Namespace, "", None), namespace);
    match cluster.call(call.query("fieldManager", "sts-migrate")).await {
        Ok(_) | Err(CallError::Status { code: 409, .. }) => Ok(()),
        Err(error) => Err(anyhow!("create namespace `{name}`: {error}")),
    }
}

/// Changes the records of an open migration in both clusters, A first, as a turn of their own.
///
/// # Errors
/// There is no open record, or a server refuses.
pub(crate) async fn amend(endpoints: &Endpoints, plan: &Plan, change: impl Fn(&mut Record)) -> anyhow::Result<()> {
    let name = plan.stem();
    let mut found: Vec<(Side, Object, Record)> = Vec::new();
    for side in Side::BOTH {
        let answer = observe::get(endpoints.cluster(side), Kind::ConfigMap, &name).await;
        let object = answer.map_err(|unknown| anyhow!("read the record: {}", unknown.reason))?;
        if let Some(object) = object {
            let record = Record::read(&object)?;
            found.push((side, object, record));
        }
    }
    found.retain(|(.., record)| record.id == plan.id && record.attempt == plan.attempt && record.is_open());
    let newest = match found.as_slice() {
        [(.., only)] => only,
        [(.., left), (.., right)] => in_force(left, right),
        _ => return Ok(()),
    };
    let mut changed = newest.clone();
    change(&mut changed);
    if changed == *newest {
        return Ok(());
    }
    let next = newest.next(change);
    for (side, object, _) in &found {
        let cluster = endpoints.cluster(*side);
        let at = path(Kind::ConfigMap, &cluster.namespace, Some(&name));
        let data: Value = json!({ "data": { RECORD_KEY: next.to_yaml() } });
        let call = act::patch(at, object.uid(), object.resource_version(), data);
        cluster.call(call).await.map_err(|error| anyhow!("write the record in the {side} cluster: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_read_from_the_name_unless_it_was_shortened() {
        assert_eq!(subject_of(&stem(Subject::Set, "web")), Some((Subject::Set, "web".to_owned())));
        let long = "a".repeat(63);
        assert_eq!(subject_of(&stem(Subject::Claim, &long)), Some((Subject::Claim, long)));
        assert_eq!(subject_of(&stem(Subject::Set, &"a".repeat(250))), None);
        assert_eq!(subject_of("something-else"), None);
    }
}
