//! Collects what the judge looks at: the only part of it that does I/O.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;

use crate::workload::Workload;
use crate::{Bed, Cluster, Tool, ec2, users};

use super::holders::VOLUMES_IN_USE;
use super::{Case, Event, Evidence, Expected, Object, Order, SetVolume, Snapshot, judge};

impl Evidence {
    /// Collects everything about a case, as it is now.
    pub async fn collect(bed: &Bed, case: &Case) -> Result<Evidence> {
        let live = look(bed, &case.source, &case.destination).await?;
        let mut events = Vec::new();
        for (cluster, mark) in &case.marks {
            let log = bed.audit_since(*cluster, *mark)?;
            events.extend(log.iter().filter_map(|line| Event::from_log(*cluster, line)));
        }
        let events = in_order(events, case);
        let control = ec2::Control::new(bed.ec2_url());
        let mut calls = Vec::new();
        for key in &case.keys {
            calls.extend(control.log_of_key(key).await?);
        }
        calls.retain(|call| call.received >= case.since);
        calls.sort_by_key(|call| call.seq);
        let mut changes = BTreeMap::new();
        for volume in &case.volumes {
            changes.insert(volume.handle.clone(), control.changes(Some(&volume.handle)).await?);
        }
        let instances = instances(&case.before).chain(instances(&live)).collect();
        Ok(Evidence { events, calls, changes, histories: histories(&control, case).await?, instances, live })
    }
}

impl Case {
    /// Returns the case of moving a set from A to another namespace of B with one identity of the
    /// tool; the set runs in A, and what is there now is what was there before.
    pub async fn for_set(bed: &Bed, tool: &Tool, source: &str, set: &str, destination: &str) -> Result<Case> {
        let empty = Case::empty(bed, tool, source, set, destination).await?;
        let found = empty.before.get(Cluster::A, "statefulsets", source, set);
        let found = found.with_context(|| format!("find the set {source}/{set} in a"))?;
        let spec = found.body["spec"].clone();
        let templates: Vec<String> = spec["volumeClaimTemplates"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|template| Some(template["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        let mut case = Case {
            start: spec["ordinals"]["start"].as_i64().unwrap_or(0),
            replicas: spec["replicas"].as_i64().unwrap_or(1),
            services: services(&empty.before, found),
            ..empty.clone()
        };
        let control = ec2::Control::new(bed.ec2_url());
        for ordinal in case.ordinals() {
            for template in &templates {
                let claim = format!("{template}-{set}-{ordinal}");
                case.volumes.push(set_volume(&control, &case, &claim, ordinal).await?);
            }
        }
        case.histories = histories(&control, &case).await?;
        Ok(case)
    }

    /// Returns the case of moving one claim alone, which no pod uses now.
    pub async fn for_claim(bed: &Bed, tool: &Tool, source: &str, claim: &str, destination: &str) -> Result<Case> {
        let empty = Case::empty(bed, tool, source, claim, destination).await?;
        // No ordinal of a pod: the case has none.
        Case { alone: true, ..empty }.with_claim(bed, claim, -1).await
    }

    /// Returns a case without ordinals and volumes: what is there now is what was there before.
    async fn empty(bed: &Bed, tool: &Tool, source: &str, name: &str, destination: &str) -> Result<Case> {
        let marks = vec![(Cluster::A, bed.audit_mark(Cluster::A)?), (Cluster::B, bed.audit_mark(Cluster::B)?)];
        let since = Timestamp::now();
        Ok(Case {
            users: BTreeSet::from([tool.user.clone()]),
            keys: BTreeSet::from([tool.access_key.clone()]),
            source: source.to_owned(),
            destination: destination.to_owned(),
            set: name.to_owned(),
            alone: false,
            start: 0,
            replicas: 0,
            order: Order::OneByOne,
            volumes: Vec::new(),
            services: BTreeSet::new(),
            classes: BTreeMap::new(),
            excused_nodes: BTreeSet::new(),
            excused_pods: BTreeSet::new(),
            other_sets: BTreeSet::new(),
            before: look(bed, source, destination).await?,
            histories: BTreeMap::new(),
            since,
            marks,
            expected: Expected::Midway,
        })
    }

    /// Returns the case of moving a workload, see [`Case::for_set`].
    pub async fn for_workload(bed: &Bed, tool: &Tool, workload: &Workload, destination: &str) -> Result<Case> {
        Case::for_set(bed, tool, workload.namespace(), workload.name(), destination).await
    }

    /// Returns the case with a claim that moves besides those of the templates: an idle one of an
    /// ordinal out of range, or one that the pod template names.
    pub async fn with_claim(mut self, bed: &Bed, claim: &str, ordinal: i64) -> Result<Case> {
        let control = ec2::Control::new(bed.ec2_url());
        let volume = set_volume(&control, &self, claim, ordinal).await?;
        self.volumes.push(volume);
        self.histories = histories(&control, &self).await?;
        Ok(self)
    }

    /// Judges the case as it is now, and fails with every violation and the lines that show it.
    pub async fn assert_clean(&self, bed: &Bed) -> Result<()> {
        let violations = judge(&Evidence::collect(bed, self).await?, self);
        if violations.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = violations.iter().map(|violation| format!("  {violation}")).collect();
        bail!("the judge found {} violations:\n{}", violations.len(), lines.join("\n"))
    }
}

/// Returns the volume of a claim as it was before.
async fn set_volume(control: &ec2::Control, case: &Case, claim: &str, ordinal: i64) -> Result<SetVolume> {
    let found = case.before.get(Cluster::A, "persistentvolumeclaims", &case.source, claim);
    let name = found.with_context(|| format!("find the claim {claim} in a"))?.text("/spec/volumeName");
    let volume = case.before.get(Cluster::A, "persistentvolumes", "", name);
    let handle = volume.and_then(Object::handle).with_context(|| format!("find the volume of the claim {claim}"))?;
    let zone = control.volume(&handle).await?.zone;
    Ok(SetVolume { handle, zone, ordinal, claim: claim.to_owned(), volume: name.to_owned() })
}

async fn histories(control: &ec2::Control, case: &Case) -> Result<BTreeMap<String, Vec<crate::facts::HistoryEntry>>> {
    let mut histories = BTreeMap::new();
    for volume in &case.volumes {
        histories.insert(volume.handle.clone(), control.history(&volume.handle).await?);
    }
    Ok(histories)
}

/// Returns the Services that belong to a set (the governing one, and those whose selector fits its
/// template or a pod of it), and the Ingresses that lead to nothing else.
fn services(before: &Snapshot, set: &Object) -> BTreeSet<String> {
    let namespace = set.namespace();
    let pods = before.of(Cluster::A, "pods").filter(|pod| pod.owners().contains(&set.uid()));
    let mut labels: Vec<Option<&Value>> = pods.map(|pod| pod.body.pointer("/metadata/labels")).collect();
    labels.push(set.body.pointer("/spec/template/metadata/labels"));
    let selects = |selector: &serde_json::Map<String, Value>| {
        let fit = |labels: &Value| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        !selector.is_empty() && labels.iter().flatten().any(|labels| fit(labels))
    };
    let fits = |service: &&Object| {
        let selector = service.body.pointer("/spec/selector").and_then(Value::as_object);
        let governs = service.name() == set.text("/spec/serviceName");
        service.namespace() == namespace && (governs || selector.is_some_and(selects))
    };
    let mut names: BTreeSet<String> =
        before.of(Cluster::A, "services").filter(fits).map(|service| service.name().to_owned()).collect();
    for ingress in before.of(Cluster::A, "ingresses").filter(|ingress| ingress.namespace() == namespace) {
        let mut backends = Vec::new();
        backend_services(&ingress.body["spec"], &mut backends);
        if !backends.is_empty() && backends.iter().all(|backend| names.contains(backend)) {
            names.insert(ingress.name().to_owned());
        }
    }
    names
}

fn backend_services(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = value.pointer("/service/name").and_then(Value::as_str) {
                found.push(name.to_owned());
            }
            fields.values().for_each(|field| backend_services(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| backend_services(item, found)),
        _ => {}
    }
}

fn instances(snapshot: &Snapshot) -> impl Iterator<Item = (String, Cluster)> {
    snapshot.objects.iter().filter(|object| object.resource == "nodes").filter_map(|node| {
        let instance = node.text("/spec/providerID").rsplit('/').next()?;
        Some((instance.to_owned(), node.cluster))
    })
}

/// Puts the events in order, once each: a watch has one line for its start and one for its end. Only
/// those that this case can need are kept.
fn in_order(events: Vec<Event>, case: &Case) -> Vec<Event> {
    let cluster_wide = ["persistentvolumes", "volumeattachments"];
    let mut kept: BTreeMap<(Cluster, String), Event> = BTreeMap::new();
    for event in events {
        let needed = case.users.contains(&event.user)
            || event.namespace == case.namespace(event.cluster)
            || (cluster_wide.contains(&event.resource.as_str()) && event.is_write())
            || event.assigns(&VOLUMES_IN_USE).is_some();
        if !needed {
            continue;
        }
        match kept.entry((event.cluster, event.id.clone())) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(event);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                if event.completed < place.get().completed {
                    place.insert(event);
                }
            }
        }
    }
    let mut events: Vec<Event> = kept.into_values().collect();
    events.sort_by_key(|event| (event.received, event.completed));
    events
}

/// Returns the objects of both clusters that a case can be about.
async fn look(bed: &Bed, source: &str, destination: &str) -> Result<Snapshot> {
    let mut objects = Vec::new();
    for (cluster, namespace) in [(Cluster::A, source), (Cluster::B, destination)] {
        let client = bed.client(cluster, users::ADMIN).await?;
        let namespaced = [
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<PersistentVolumeClaim>(&()),
            ApiResource::erase::<StatefulSet>(&()),
            ApiResource::erase::<ControllerRevision>(&()),
            ApiResource::erase::<Deployment>(&()),
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<Ingress>(&()),
            ApiResource::erase::<ConfigMap>(&()),
            ApiResource::erase::<Secret>(&()),
            ApiResource::erase::<ServiceAccount>(&()),
            ApiResource::erase::<PodDisruptionBudget>(&()),
            ApiResource::erase::<Lease>(&()),
        ];
        let cluster_wide = [
            ApiResource::erase::<PersistentVolume>(&()),
            ApiResource::erase::<VolumeAttachment>(&()),
            ApiResource::erase::<Node>(&()),
        ];
        let lists = namespaced
            .into_iter()
            .map(|resource| list(&client, cluster, Some(namespace), resource))
            .chain(cluster_wide.into_iter().map(|resource| list(&client, cluster, None, resource)));
        objects.extend(try_join_all(lists).await?.into_iter().flatten());
    }
    keep_related(&mut objects, source, destination);
    Ok(Snapshot { objects })
}

/// Drops the PersistentVolumes and VolumeAttachments of other tests.
fn keep_related(objects: &mut Vec<Object>, source: &str, destination: &str) {
    let claimed_here = |object: &Object| {
        let namespace = object.text("/spec/claimRef/namespace");
        namespace == if object.cluster == Cluster::A { source } else { destination }
    };
    let handles: BTreeSet<String> =
        objects.iter().filter(|object| claimed_here(object)).filter_map(Object::handle).collect();
    let related = |object: &Object| object.handle().is_some_and(|handle| handles.contains(&handle));
    let volumes: BTreeSet<(Cluster, String)> = objects
        .iter()
        .filter(|object| object.resource == "persistentvolumes" && (claimed_here(object) || related(object)))
        .map(|object| (object.cluster, object.name().to_owned()))
        .collect();
    objects.retain(|object| match object.resource.as_str() {
        "persistentvolumes" => volumes.contains(&(object.cluster, object.name().to_owned())),
        "volumeattachments" => {
            volumes.contains(&(object.cluster, object.text("/spec/source/persistentVolumeName").to_owned()))
        }
        _ => true,
    });
}

async fn list(
    client: &Client,
    cluster: Cluster,
    namespace: Option<&str>,
    resource: ApiResource,
) -> Result<Vec<Object>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let listed = api.list(&ListParams::default()).await;
    let listed = listed.with_context(|| format!("list {} in {}", resource.plural, cluster.name()))?;
    listed
        .items
        .into_iter()
        .map(|object| {
            let body = serde_json::to_value(object).context("read an object")?;
            Ok(Object { cluster, resource: resource.plural.clone(), body })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::made::{Made, TOOL};

    #[test]
    fn services_and_ingresses_of_the_set_are_known_by_where_they_lead() {
        let object = |resource: &str, name: &str, spec: Value| Object {
            cluster: Cluster::A,
            resource: resource.to_owned(),
            body: json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}),
        };
        let pod = |name: &str, owner: &str, role: &str| {
            let mut pod = object("pods", name, json!({}));
            pod.body["metadata"]["labels"] = json!({"role": role});
            pod.body["metadata"]["ownerReferences"] = json!([{"uid": owner}]);
            pod
        };
        let backend = |name: &str| json!({"rules": [{"http": {"paths": [{"backend": {"service": {"name": name}}}]}}]});
        let before = Snapshot {
            objects: vec![
                object("services", "web", json!({"selector": {"app": "web"}})),
                object("services", "all", json!({"selector": {}})),
                object("services", "api", json!({"selector": {"app": "api"}})),
                object("services", "leader", json!({"selector": {"role": "leader"}})),
                object("services", "governing", json!({"selector": {"app": "nothing"}})),
                pod("web-0", "web-uid", "leader"),
                pod("api-0", "api-uid", "api"),
                object("ingresses", "front", backend("web")),
                object("ingresses", "side", backend("api")),
            ],
        };
        let template = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        let mut set = object("statefulsets", "web", json!({"template": template, "serviceName": "governing"}));
        set.body["metadata"]["uid"] = json!("web-uid");
        let found = services(&before, &set);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["front", "governing", "leader", "web"]);
    }

    #[test]
    fn a_watch_that_ended_is_one_event_and_strangers_are_none() {
        let mut made = Made::new();
        let watch = made.read(1, Cluster::A, "watch", "pods", "a-space", "", 200).clone();
        let mut started = watch.clone();
        started.completed = Timestamp::MAX;
        let mut stranger = watch.clone();
        stranger.user = "tool-7".to_owned();
        stranger.namespace = "another-space".to_owned();
        stranger.id = "another".to_owned();
        let events = in_order(vec![started, watch.clone(), stranger], &made.case);
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].completed, events[0].user.as_str()), (watch.completed, TOOL));
    }
}
