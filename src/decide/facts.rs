//! Facts, or the read that gets them.
use super::*;
pub(super) fn base(_plan: &Plan, _set: &SetPlan, _world: &World) -> Flow<()> { todo!() }
pub(super) fn same_clusters(_plan: &Plan, _world: &World) -> Flow<()> { todo!() }
