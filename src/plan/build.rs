//! From the world to the plan.

use super::{Plan, Request};
use crate::world::{Read, World};

/// Returns the reads that [`build`] still needs, empty when all are there.
pub fn needed(_request: &Request, _world: &World) -> Vec<Read> {
    todo!()
}

/// Makes the plan of a migration.
///
/// # Errors
/// Something is missing or cannot be translated; preflight finds the same and says what to type.
pub fn build(_request: &Request, _attempt: u32, _world: &World) -> anyhow::Result<Plan> {
    todo!()
}
