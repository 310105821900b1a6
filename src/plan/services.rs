//! Which Services and Ingresses belong to a set (§1.2).

use crate::world::{Object, World};

/// How a Service or Ingress of A's namespace stands to the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKinship {
    /// It is the set's own and publishes nothing: created in prepare.
    OwnQuiet,
    /// It is the set's own and publishes something: waits for the cutover.
    OwnPublishing,
    /// It selects the set's pods and others' too: reported, never copied.
    Shared,
    /// It has nothing to do with the set.
    Unrelated,
}

/// Returns how a Service or Ingress stands to the set.
pub fn kinship(_set: &Object, _object: &Object, _world: &World) -> ServiceKinship {
    todo!()
}
