//! `sts-migrate` moves a running StatefulSet and its EBS volumes to another cluster without copying data.
//!
//! World in, next action out: [`world`] is what both clusters and EC2 are seen to be, [`plan`] is what
//! was agreed on, and [`decide::decide`] says what comes next. Everything else reads, acts or talks.

mod act;
pub mod checks;
pub mod cli;
mod commands;
mod connect;
pub mod decide;
mod drive;
mod events;
mod failure;
#[cfg(test)]
mod fixtures;
mod names;
mod observe;
pub mod plan;
pub mod record;
mod report;
mod spec;
mod store;
pub mod translate;
mod ui;
pub mod world;
