//! Each check: a world that passes, and one for each way to fail.

use serde_json::{Value, json};

use super::{Finding, Level, blocks, needed, preflight, rights};
use crate::fixtures;
use crate::plan::{Plan, Request};
use crate::world::{Ec2Volume, Kind, Object, Read, Side, Unknown, VolumeFacts, VolumeId, World};

mod alone;
mod claims;
mod clusters;
mod destination;
mod holders;
mod order;
mod reads;
mod set;
mod volumes;

/// A world to be spoilt.
struct Bench {
    request: Request,
    world: World,
}

impl Bench {
    /// Returns a world in which everything is fine: 3 replicas, 2 claim templates.
    fn fine() -> Bench {
        Bench::of(&fixtures::plan(3, 2))
    }

    /// Returns such a world for a plan, kept by neither Argo CD nor Helm.
    fn of(plan: &Plan) -> Bench {
        let mut bench = Bench::asking(fixtures::request(), fixtures::world(plan));
        bench.edit(Side::Source, Kind::StatefulSet, "web", |set| set["metadata"]["annotations"] = json!({}));
        bench
    }

    /// Returns a world in which this user may do everything that a request needs.
    fn asking(request: Request, mut world: World) -> Bench {
        for read in needed_rights(&request) {
            world.allowed.insert(read, Ok(true));
        }
        Bench { request, world }
    }

    fn edit(&mut self, side: Side, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.world.object(side, kind, name).expect("it is in the fixture").clone();
        change(&mut object.0);
        self.put(side, kind, object.0);
    }

    fn set(&mut self, change: impl FnOnce(&mut Value)) {
        self.edit(Side::Source, Kind::StatefulSet, "web", change);
    }

    /// Changes the PV of a claim.
    fn volume(&mut self, claim: &str, change: impl FnOnce(&mut Value)) {
        let name = self.volume_name(claim);
        self.edit(Side::Source, Kind::PersistentVolume, &name, change);
    }

    fn volume_name(&self, claim: &str) -> String {
        let claim = self.world.object(Side::Source, Kind::PersistentVolumeClaim, claim).expect("it is in the fixture");
        claim.text("/spec/volumeName").expect("it is Bound").to_owned()
    }

    /// Changes what EC2 says of the volume of a claim.
    fn ec2(&mut self, claim: &str, change: impl FnOnce(&mut Ec2Volume)) {
        let id = self.volume_id(claim);
        let facts = &self.world.volumes[&id];
        let mut volume = facts.latest().expect("it was read").expect("it was answered").1.expect("it is there").clone();
        change(&mut volume);
        self.answer(&id, Ok(Some(volume)));
    }

    fn volume_id(&self, claim: &str) -> VolumeId {
        let name = self.volume_name(claim);
        let volume = self.world.object(Side::Source, Kind::PersistentVolume, &name).expect("it is in the fixture");
        volume.volume_id().expect("it is an EBS volume")
    }

    fn answer(&mut self, id: &VolumeId, answer: Result<Option<Ec2Volume>, Unknown>) {
        let mut facts = VolumeFacts::default();
        facts.put(2, answer);
        self.world.volumes.insert(id.clone(), facts);
    }

    fn put(&mut self, side: Side, kind: Kind, object: Value) {
        let object = Object(object);
        // Kinds of every namespace are only ever listed.
        if kind.is_everywhere() {
            let mut all: Vec<Object> = self.world.objects(side, kind).cloned().collect();
            all.push(object);
            self.world.shelf_mut(side, kind).put_list(2, all);
            return;
        }
        let name = object.name().to_owned();
        self.world.shelf_mut(side, kind).put(2, &name, Ok(Some(object)));
    }

    /// Puts a copy of an object of A into B's namespace, without our mark.
    fn copy(&mut self, kind: Kind, name: &str) {
        let object = self.world.object(Side::Source, kind, name).expect("it is in the fixture").clone();
        self.put(Side::Destination, kind, object.0);
    }

    fn remove(&mut self, side: Side, kind: Kind, name: &str) {
        self.world.shelf_mut(side, kind).put(2, name, Ok(None));
    }

    fn refuse(&mut self, side: Side, kind: Kind) {
        self.world.shelf_mut(side, kind).put_list_unknown(3, forbidden());
    }

    fn findings(&self) -> Vec<Finding> {
        preflight(&self.request, &self.world)
    }

    /// Runs all checks and returns the findings above Tells, which must all have this code and
    /// among them one of this level; each must say what to type.
    #[track_caller]
    fn only(&self, code: &str, level: Level) -> Vec<Finding> {
        let findings: Vec<Finding> =
            self.findings().into_iter().filter(|finding| finding.level != Level::Tells).collect();
        assert!(!findings.is_empty(), "nothing was found");
        assert!(findings.iter().all(|finding| finding.code == code), "{findings:#?}");
        assert!(findings.iter().any(|finding| finding.level == level), "{findings:#?}");
        for finding in &findings {
            assert!(finding.remedy.matches('`').count() >= 2, "no command in the remedy: {finding:#?}");
        }
        assert_eq!(blocks(&findings, false), matches!(level, Level::Blocks | Level::Forceable));
        findings
    }

    /// Like `only`, and there is exactly one.
    #[track_caller]
    fn one(&self, code: &str, level: Level) -> Finding {
        let mut findings = self.only(code, level);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }

    /// Runs all checks; nothing may be above Tells.
    #[track_caller]
    fn passes(&self) {
        let findings: Vec<Finding> =
            self.findings().into_iter().filter(|finding| finding.level != Level::Tells).collect();
        assert!(findings.is_empty(), "{findings:#?}");
    }

    /// Returns the finding of that code, of whatever level.
    #[track_caller]
    fn told(&self, code: &str) -> Finding {
        let findings = self.findings();
        let found = findings.iter().find(|finding| finding.code == code);
        found.unwrap_or_else(|| panic!("no {code} in {findings:#?}")).clone()
    }
}

fn forbidden() -> Unknown {
    Unknown { reason: "403 Forbidden".to_owned(), passing: false }
}

fn needed_rights(request: &Request) -> Vec<(Side, &'static str, Kind)> {
    let world = World::default();
    let scope = super::scope::Scope { request, world: &world };
    let key = |read| match read {
        Read::Allowed(side, verb, kind) => (side, verb, kind),
        other => panic!("{other:?} is no question about a right"),
    };
    rights::reads(&scope).map(key).collect()
}

fn pod(name: &str, claim: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "uid": format!("uid-{name}") },
        "spec": { "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }] },
        "status": { "phase": "Running" },
    })
}

#[test]
fn a_fine_world_has_nothing_above_notes() {
    Bench::fine().passes();
    Bench::of(&fixtures::plan(1, 1)).passes();
    Bench::of(&fixtures::plan_from(3, 3, 2)).passes();
}

#[test]
fn findings_are_sorted_by_level_and_then_as_the_catalogue_counts() {
    let mut bench = Bench::fine();
    bench.ec2("data-web-0", |volume| volume.managed = true);
    bench.set(|set| set["metadata"]["finalizers"] = json!(["example.org/hold"]));
    bench.edit(Side::Source, Kind::Pod, "web-1", |pod| pod["status"]["conditions"] = json!([]));
    let found: Vec<(Level, &str)> = bench
        .findings()
        .iter()
        .map(|finding| (finding.level, finding.code))
        .filter(|(level, _)| *level != Level::Tells)
        .collect();
    assert_eq!(found, [(Level::Blocks, "PF-7"), (Level::Blocks, "PF-23"), (Level::Forceable, "PF-12")]);
}

#[test]
fn force_goes_past_what_can_be_forced_and_nothing_else() {
    let finding =
        |level| Finding { code: "PF-0", level, subject: String::new(), what: String::new(), remedy: String::new() };
    assert!(blocks(&[finding(Level::Blocks)], true));
    assert!(blocks(&[finding(Level::Forceable)], false));
    assert!(!blocks(&[finding(Level::Forceable)], true));
    assert!(!blocks(&[finding(Level::Warns), finding(Level::Tells)], false));
}

#[test]
fn a_finding_is_written_in_camel_case() {
    let mut bench = Bench::fine();
    bench.set(|set| set["metadata"]["finalizers"] = json!(["example.org/hold"]));
    let json = serde_json::to_value(bench.one("PF-7", Level::Blocks)).expect("it is plain data");
    assert_eq!(json["code"], "PF-7");
    assert_eq!(json["level"], "blocks");
    assert_eq!(json["subject"], "StatefulSet web (source)");
}

#[test]
fn thousands_of_pods_and_volumes_of_others_are_in_nobodys_way() {
    let mut bench = Bench::fine();
    for side in Side::BOTH {
        let pods = (0..5_000).map(|number| Object(pod(&format!("other-{number}"), &format!("data-other-{number}"))));
        let mut all: Vec<Object> = bench.world.objects(side, Kind::Pod).cloned().collect();
        all.extend(pods);
        bench.world.shelf_mut(side, Kind::Pod).put_list(2, all);
        let mut all: Vec<Object> = bench.world.objects(side, Kind::PersistentVolume).cloned().collect();
        all.extend((0..5_000).map(|number| {
            Object(json!({
                "metadata": { "name": format!("pv-{side}-{number}") },
                "spec": { "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": format!("vol-1{number:016x}") } },
            }))
        }));
        bench.world.shelf_mut(side, Kind::PersistentVolume).put_list(2, all);
    }
    bench.passes();
}
