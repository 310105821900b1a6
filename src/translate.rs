//! From A's object to B's, field by field, on raw JSON; and back from the before-images.
//!
//! Raw, so that fields which no typed struct knows survive. Idempotent on its own output. No I/O.
//! The rules are design §4; each module names the hazards that it answers.

mod again;
mod claim;
mod metadata;
mod pairs;
mod remarks;
mod service;
mod set;
mod volume;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tables;

pub use again::{claim_again, set_again, volume_again};
pub use claim::claim;
pub use pairs::Pairs;
pub use remarks::remarks;
pub use service::service;
pub use set::set;
pub use volume::volume;
