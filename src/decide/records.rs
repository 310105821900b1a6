//! Plan and records in both clusters.
use super::*;
pub(super) fn settle(_plan: &Plan, _goal: &Goal, _world: &World) -> Flow<Record> { todo!() }
