//! Addresses of a set's Services and Ingresses, old → new: what clients must learn at a cutover.

use serde::Serialize;

use crate::plan::SetPlan;
use crate::world::{Object, Side, World};

/// Where one Service or Ingress is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Address {
    /// `Service` or `Ingress`.
    pub(crate) kind: &'static str,
    /// Its name, the same in both clusters.
    pub(crate) name: String,
    /// Addresses in A, as the plan found them.
    pub(crate) source: Vec<String>,
    /// Addresses in B, none as long as there are none.
    pub(crate) destination: Vec<String>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |addresses: &[String], none: &str| {
            if addresses.is_empty() { none.to_owned() } else { addresses.join(", ") }
        };
        let Address { kind, name, source, destination } = self;
        write!(formatter, "{kind} {name}: {} → {}", shown(source, "none"), shown(destination, "none yet"))
    }
}

/// Returns the addresses of what is carried over and has one on either side.
pub(crate) fn addresses(set: &SetPlan, world: &World) -> Vec<Address> {
    let shown = set.services.iter().map(|service| {
        let (kind, name) = (service.kind(), service.before.name());
        let there = world.object(Side::Destination, kind, name);
        Address {
            kind: kind.name(),
            name: name.to_owned(),
            source: of(&service.before),
            destination: there.map(of).unwrap_or_default(),
        }
    });
    shown.filter(|address| !address.source.is_empty() || !address.destination.is_empty()).collect()
}

fn of(object: &Object) -> Vec<String> {
    let points = object.array("/status/loadBalancer/ingress").iter();
    points.filter_map(|point| point["hostname"].as_str().or_else(|| point["ip"].as_str())).map(str::to_owned).collect()
}
