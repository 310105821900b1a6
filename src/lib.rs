//! `sts-migrate` moves a running StatefulSet and its EBS volumes to another cluster without copying data.
//!
//! World in, next action out: [`world`] is what both clusters and EC2 are seen to be, [`plan`] is what
//! was agreed on, and [`decide::decide`] says what comes next. Everything else reads, acts or talks.

pub mod decide;
#[cfg(test)]
mod fixtures;
pub mod plan;
pub mod record;
pub mod translate;
pub mod world;
