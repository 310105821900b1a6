//! What status says at the boundaries of a migration.

use serde_json::json;

use super::*;
use crate::fixtures;
use crate::plan::{Choices, IdleClaims, MIGRATION_ANNOTATION, Order};
use crate::record::{Cutover, Outcome};
use crate::world::{Attachment, AttachmentState, Object, Unknown, VolumeState};

/// A migration of two ordinals, its record and what is seen of it.
struct Scene {
    plan: Plan,
    record: Record,
    world: World,
}

impl Scene {
    /// Nothing but plan and records was written.
    fn begun() -> Scene {
        let plan = fixtures::plan(2, 1);
        let world = fixtures::world(&plan);
        Scene { record: Record::first(&plan), plan, world }
    }

    /// The set in A is gone, B's stands with so many replicas; none of A's pods has moved.
    fn frozen(replicas: i64) -> Scene {
        let mut scene = Scene::begun();
        scene.record.frozen_at = Some("2026-03-01T22:00:00Z".to_owned());
        scene.put(Side::Source, Kind::StatefulSet, "web", None);
        let set = json!({
            "metadata": { "name": "web", "annotations": { MIGRATION_ANNOTATION: scene.plan.mark() } },
            "spec": { "replicas": replicas },
            "status": { "availableReplicas": replicas },
        });
        scene.put(Side::Destination, Kind::StatefulSet, "web", Some(set));
        scene
    }

    /// The first ordinal has moved.
    fn halfway() -> Scene {
        let mut scene = Scene::frozen(1);
        scene.put(Side::Source, Kind::Pod, "web-0", None);
        let pod = json!({
            "metadata": { "name": "web-0" },
            "spec": { "nodeName": "node-b" },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        scene.put(Side::Destination, Kind::Pod, "web-0", Some(pod));
        scene.attach(0, Some(fixtures::instance_id(Side::Destination, 0)));
        scene
    }

    /// The second ordinal is on its way: stopped in A, its volume free, not yet started in B.
    fn between() -> Scene {
        let mut scene = Scene::halfway();
        scene.put(Side::Source, Kind::Pod, "web-1", None);
        scene.attach(1, None);
        scene
    }

    fn put(&mut self, side: Side, kind: Kind, name: &str, object: Option<serde_json::Value>) {
        self.world.seq += 1;
        let seq = self.world.seq;
        self.world.shelf_mut(side, kind).put(seq, name, Ok(object.map(Object)));
    }

    fn attach(&mut self, ordinal: usize, instance: Option<String>) {
        self.world.seq += 1;
        let seq = self.world.seq;
        let id = self.plan.sets[0].ordinals[ordinal].volumes[0].volume.clone();
        let facts = self.world.volumes.get_mut(&id).expect("the volume was described");
        let Some(Ok((_, Some(known)))) = facts.latest() else { panic!("the volume is known") };
        let mut volume = known.clone();
        volume.state = if instance.is_some() { VolumeState::InUse } else { VolumeState::Available };
        let attached =
            |instance| Attachment { instance, state: AttachmentState::Attached, delete_on_termination: false };
        volume.attachments = instance.map(attached).into_iter().collect();
        facts.put(seq, Ok(Some(volume)));
    }

    fn lock(&mut self) {
        let lease = json!({
            "metadata": { "name": self.plan.stem() },
            "spec": { "holderIdentity": "dba@laptop/boot/pid/7/99", "renewTime": "2026-03-01T22:01:00Z" },
        });
        self.put(Side::Source, Kind::Lease, &self.plan.stem(), Some(lease));
    }

    fn fail(&mut self) {
        self.record.last_failure = Some(LastFailure {
            step: "swing".to_owned(),
            reason: "waited 300 s for vol-1 to be detached".to_owned(),
            at: "2026-03-01T22:05:00Z".to_owned(),
        });
    }

    fn status(&self) -> Status {
        Status::new(Subject::Set, "web", Some(&self.plan), Some(&self.record), &self.world, |subcommand| {
            format!("tool {subcommand}")
        })
    }
}

#[test]
fn before_there_is_a_record_nothing_was_done() {
    let mut scene = Scene::begun();
    let status = |scene: &Scene| Status::new(Subject::Set, "web", None, None, &scene.world, |it| format!("tool {it}"));
    let pending = status(&scene);
    assert_eq!((pending.phase, pending.next.commands), (Phase::Pending, vec!["tool run".to_owned()]));
    scene.lock();
    let looking = status(&scene);
    assert_eq!((looking.phase, looking.next.commands), (Phase::PreFlightChecks, vec!["tool status".to_owned()]));
}

#[test]
fn what_is_up_and_not_verified_is_still_being_moved() {
    let mut scene = Scene::frozen(2);
    scene.record.verifying = true;
    let status = scene.status();
    assert_eq!(status.phase, Phase::MigratingPods);
    assert_eq!(status.next.commands, ["tool run --verify-command COMMAND", "tool rollback"]);
}

#[test]
fn before_the_freeze_all_pods_are_in_the_source() {
    let status = Scene::begun().status();
    assert_eq!(status.phase, Phase::FreezingSource);
    assert!(status.ordinals.iter().all(|ordinal| ordinal.location == Location::Source));
    assert_eq!(status.without_controller(), None);
    assert_eq!(status.next.commands, ["tool run", "tool rollback"]);
}

#[test]
fn after_the_freeze_it_says_since_when_nothing_heals_the_pods() {
    let status = Scene::frozen(0).status();
    assert_eq!(status.phase, Phase::MigratingPods);
    assert_eq!(
        status.without_controller().as_deref(),
        Some("since 2026-03-01T22:00:00Z the pods in the source cluster have no controller that would heal them")
    );
}

#[test]
fn an_ordinal_in_neither_cluster_comes_first_with_its_free_volume() {
    let scene = Scene::between();
    let status = scene.status();
    let places: Vec<(&str, Location)> =
        status.ordinals.iter().map(|ordinal| (ordinal.pod.as_str(), ordinal.location)).collect();
    assert_eq!(places, [("web-1", Location::Neither), ("web-0", Location::Destination)]);
    let volume = &scene.plan.sets[0].ordinals[1].volumes[0].volume;
    assert_eq!(
        status.left_behind(),
        [
            "pod web-1 running in neither cluster".to_owned(),
            "pod web-0 in the destination cluster".to_owned(),
            format!("{volume} attached to nothing (`available` in EC2): keep janitors away"),
        ]
    );
}

#[test]
fn a_failure_is_the_phase_until_somebody_works_on_it_again() {
    let mut scene = Scene::halfway();
    scene.fail();
    assert_eq!(scene.status().phase, Phase::Failed);
    scene.lock();
    let status = scene.status();
    assert_eq!(status.phase, Phase::MigratingPods);
    assert_eq!(status.locked_by.map(|lock| lock.holder).as_deref(), Some("dba@laptop (process 7)"));
    assert_eq!(status.next.commands, ["tool status"]);
}

#[test]
fn phases_follow_the_record() {
    let mut scene = Scene::frozen(2);
    assert_eq!(scene.status().phase, Phase::Finalizing);
    scene.record.cutover = Cutover::Done;
    assert_eq!(scene.status().next.commands, ["tool finalize", "tool rollback"]);
    scene.record.deleting = true;
    assert_eq!(scene.status().next.commands, ["tool finalize"]);
    scene.record.direction = Direction::Back;
    assert_eq!(scene.status().phase, Phase::RollingBack);
    scene.record.outcome = Some(Outcome::RolledBack);
    let status = scene.status();
    assert_eq!(status.phase, Phase::RolledBack);
    assert_eq!(status.next.commands, ["tool rollback"], "the plan is still there: the ending is not complete");
    scene.record.outcome = Some(Outcome::Completed);
    let status = scene.status();
    assert_eq!((status.phase, status.frozen_at), (Phase::Completed, None));
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_absent() {
    let mut scene = Scene::halfway();
    scene.world.seq += 1;
    let seq = scene.world.seq;
    let unknown = crate::world::Unknown { reason: "403".to_owned(), passing: false };
    scene.world.shelf_mut(Side::Source, Kind::Pod).put_list_unknown(seq, unknown);
    let status = scene.status();
    let web_1 = status.ordinals.iter().find(|ordinal| ordinal.pod == "web-1").map(|ordinal| ordinal.location);
    assert_eq!(web_1, Some(Location::Unknown));
}

#[test]
fn the_printed_document_can_be_fed_back() {
    let mut scene = Scene::halfway();
    let destination = ClusterReference::KubeConfigSecret("ops/b".to_owned());
    for (order, idle_claims, is_chosen) in [
        (Order::OneByOne, IdleClaims::Undecided, false),
        (Order::Together, IdleClaims::Include, true),
        (Order::OneByOne, IdleClaims::Leave, true),
    ] {
        let classes = [("gp2".to_owned(), "gp3".to_owned())];
        let storage_class_map = classes.into_iter().filter(|_| is_chosen).collect();
        scene.plan.choices =
            Choices { order, idle_claims, storage_class_map, force: is_chosen, create_namespace: is_chosen };
        let here = [(ClusterReference::Context("a".to_owned()), "shop"), (destination.clone(), "market")];
        let document = scene.status().document(Subject::Set, "web", here, Some(&scene.plan));
        let text = serde_yaml::to_string(&document).expect("plain data");
        let spec = crate::spec::parse(&text).expect("the document is right");
        assert_eq!(spec.stateful_set_name.as_deref(), Some("web"));
        assert_eq!(spec.dest_cluster, Some(destination.clone()));
        assert_eq!(spec.differences(&scene.plan), []);
        // Nothing is left to be chosen again.
        let [here, there] = Side::BOTH.map(|side| scene.plan.place(side).clone());
        let request = spec.request(Subject::Set, "web", here, there);
        let chosen = Choices {
            order: request.order.expect("the order is in the document"),
            storage_class_map: request.storage_class_map,
            force: request.force,
            create_namespace: request.create_namespace,
            idle_claims: request.idle_claims,
        };
        assert_eq!(chosen, scene.plan.choices);
    }
}

#[test]
fn the_text_names_every_pod_and_what_to_type() {
    let mut scene = Scene::between();
    scene.fail();
    let text = scene.status().text(Subject::Set, "web", Some(&scene.plan));
    let [moved, moving] = [0, 1].map(|ordinal| scene.plan.sets[0].ordinals[ordinal].volumes[0].volume.clone());
    let place = |side: Side| format!("{}/{}", scene.plan.place(side).context, scene.plan.place(side).namespace);
    assert_eq!(
        text,
        format!(
            "StatefulSet web: {} → {}, one-by-one\n\
             migration {} (attempt 1)\n\
             phase: Failed\n\
             last failure: waited 300 s for vol-1 to be detached (in swing, at 2026-03-01T22:05:00Z)\n\
             locked by: nobody\n\
             remark: there is no record in the source cluster\n\
             remark: there is no record in the destination cluster\n\
             \x20 web-1: in NEITHER cluster, it has no pod\n\
             \x20   data-web-1 {moving}: nobody\n\
             \x20 web-0: destination, Ready on node node-b\n\
             \x20   data-web-0 {moved}: destination cluster\n\
             next: move the pods that are left, or go back\n\
             \x20 tool run\n\
             \x20 tool rollback\n",
            place(Side::Source),
            place(Side::Destination),
            scene.plan.id,
        )
    );
}

/// A claim that moves alone, before and after it is there.
#[test]
fn a_claim_is_told_by_its_pair() {
    let plan = fixtures::claim_plan();
    let claim = plan.name().to_owned();
    let mut scene = Scene { record: Record::first(&plan), world: fixtures::world(&plan), plan };
    let status = |scene: &Scene| {
        Status::new(Subject::Claim, &claim, Some(&scene.plan), Some(&scene.record), &scene.world, |subcommand| {
            format!("tool {subcommand}")
        })
    };
    let before = status(&scene);
    assert_eq!((before.phase, before.pairs[0].bound_in.as_slice()), (Phase::FreezingSource, &[Side::Source][..]));
    assert_eq!(before.next.what, "move the claim, or go back");
    let volume = scene.plan.sets[0].idle[0].clone();
    for (kind, mut object) in [
        (Kind::PersistentVolumeClaim, volume.claim_before.0.clone()),
        (Kind::PersistentVolume, volume.volume_before.0.clone()),
    ] {
        object["status"] = json!({ "phase": "Bound" });
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        scene.put(Side::Destination, kind, &name, Some(object));
    }
    let after = status(&scene);
    assert_eq!((after.phase, after.pairs[0].bound_in.as_slice()), (Phase::Finalizing, &Side::BOTH[..]));
    assert_eq!(after.next.commands, ["tool finalize", "tool rollback"]);
    let text = after.text(Subject::Claim, &claim, Some(&scene.plan));
    assert!(text.starts_with("claim data-web-0: a/shop → b/market\n"), "{text}");
    assert!(text.contains("claim data-web-0: is Bound in both clusters"), "{text}");
    assert!(text.contains(&format!("{}: nobody", volume.volume)), "{text}");
    let left = after.left_behind();
    assert!(left.iter().any(|line| line.contains("keep janitors away")), "{left:?}");
    let here = [ClusterReference::Context("a".to_owned()), ClusterReference::Context("b".to_owned())];
    let [source, destination] = here;
    let document =
        after.document(Subject::Claim, &claim, [(source, "shop"), (destination, "market")], Some(&scene.plan));
    assert_eq!(document["spec"]["claimName"], claim.as_str());
    assert_eq!(document.get("kind"), None, "it cannot be fed back, and does not say so");
}

/// EC2 holds back a deletion while the volume is in use; the restart that lets it go must not come as a surprise.
#[test]
fn a_volume_of_a_that_somebody_lets_be_deleted_is_warned_of() {
    let warned = |scene: &Scene| -> Vec<String> {
        scene.status().remarks.into_iter().filter(|remark| remark.contains("PersistentVolume")).collect()
    };
    let mut scene = Scene::halfway();
    let planned = scene.plan.sets[0].ordinals[0].volumes[0].clone();
    let name = planned.volume_name(Side::Source).to_owned();
    let volume = |mark: &str, policy: &str| {
        let mut volume = planned.volume_before.0.clone();
        volume["metadata"]["annotations"][MIGRATION_ANNOTATION] = json!(mark);
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
        Some(volume)
    };
    let mark = scene.plan.mark();
    for (mark, policy) in [(mark.as_str(), "Retain"), ("", "Delete")] {
        scene.put(Side::Source, Kind::PersistentVolume, &name, volume(mark, policy));
        assert_eq!(warned(&scene), Vec::<String>::new(), "{mark} {policy}");
    }
    scene.put(Side::Source, Kind::PersistentVolume, &name, volume(&mark, "Delete"));
    let [warning] = &warned(&scene)[..] else { panic!("one warning") };
    let [what, command, _] = warning.split('`').collect::<Vec<_>>()[..] else { panic!("one command: {warning}") };
    assert!(what.contains(&format!("PersistentVolume {name} in the source cluster to Delete")), "{warning}");
    assert!(what.contains(&planned.volume.to_string()), "{warning}");
    let patch = r#"'{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}'"#;
    assert_eq!(command, format!("kubectl --context a patch pv {name} -p {patch}"));
    assert!(needed(Some(&scene.plan), Subject::Set, "web").contains(&Read::List(Side::Source, Kind::PersistentVolume)));

    let unknown = Unknown { reason: "503".to_owned(), passing: true };
    scene.world.seq += 1;
    let seq = scene.world.seq;
    scene.world.shelf_mut(Side::Source, Kind::PersistentVolume).put_list_unknown(seq, unknown);
    let words =
        "it is not known whether 2 PersistentVolumes in the source cluster would outlive their claims: no answer";
    assert_eq!(warned(&scene), [words]);
}
