//! Can B's nodes attach the volumes? (PF-26)

use std::collections::BTreeSet;

use serde_json::Value;

use super::case::{Case, driver};
use super::scope::subject;
use super::volumes::zone;
use super::{Finding, Level};
use crate::world::{Kind, Object, Side};

/// The topology key that a PV in B is pinned with.
const ZONE_KEY: &str = "topology.kubernetes.io/zone";

/// PF-26: B has the PVs' driver, registered on a node in each of the volumes' zones, with the zone
/// as a topology key (driver 1.28 or newer).
pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let side = Side::Destination;
    let mut findings: Vec<Finding> = [Kind::CsiDriver, Kind::CsiNode]
        .into_iter()
        .filter_map(|kind| case.scope.doubt("PF-26", Level::Blocks, side, kind, "whether the driver runs there"))
        .collect();
    if !findings.is_empty() {
        return findings;
    }
    let mut needed: BTreeSet<(&str, &str)> = BTreeSet::new();
    for claim in &case.claims {
        let (Some(driver), Some(ec2)) = (claim.volume.and_then(driver), claim.ec2(case.world())) else { continue };
        needed.insert((driver, ec2.zone.as_str()));
    }
    let drivers: BTreeSet<&str> = needed.iter().map(|(driver, _)| *driver).collect();
    for name in drivers {
        if case.world().object(side, Kind::CsiDriver, name).is_none() {
            let there: Vec<&str> = case.world().objects(side, Kind::CsiDriver).map(Object::name).collect();
            findings.push(Finding {
                code: "PF-26",
                level: Level::Blocks,
                subject: subject(side, Kind::CsiDriver, name),
                what: format!(
                    "it is not there (there are: {}); a PV cannot change its driver",
                    if there.is_empty() { "none".to_owned() } else { there.join(", ") }
                ),
                remedy: format!(
                    "install the driver {name} in the destination; `{} get csidrivers`",
                    case.destination(Kind::CsiDriver)
                ),
            });
            continue;
        }
        let zones = needed.iter().filter(|(driver, _)| *driver == name).map(|(_, zone)| *zone);
        findings.extend(zones.filter_map(|zone| in_zone(case, name, zone)));
    }
    findings
}

fn in_zone(case: &Case<'_>, driver: &str, wanted: &str) -> Option<Finding> {
    let side = Side::Destination;
    let nodes: Vec<&Object> =
        case.world().objects(side, Kind::Node).filter(|node| zone(node) == Some(wanted)).collect();
    if nodes.is_empty() {
        // PF-22 says so.
        return None;
    }
    let entries: Vec<&Value> = nodes
        .iter()
        .filter_map(|node| case.world().object(side, Kind::CsiNode, node.name()))
        .flat_map(|node| node.array("/spec/drivers"))
        .filter(|entry| entry["name"] == driver)
        .collect();
    let has_key =
        |entry: &&Value| entry["topologyKeys"].as_array().is_some_and(|keys| keys.iter().any(|key| key == ZONE_KEY));
    let what = if entries.is_empty() {
        format!("it runs on no node in {wanted}: a pod there could not get its volumes")
    } else if !entries.iter().any(has_key) {
        format!("on no node in {wanted} does it know the topology key {ZONE_KEY} (it is older than 1.28)")
    } else {
        return None;
    };
    Some(Finding {
        code: "PF-26",
        level: Level::Blocks,
        subject: subject(side, Kind::CsiDriver, driver),
        what,
        remedy: format!(
            "see that its node plugin runs there, in a new enough version: `{} get csinodes -o yaml`",
            case.destination(Kind::CsiNode)
        ),
    })
}
