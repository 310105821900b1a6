//! Tests of the decisions: a table of situations, and a model that explores all of them.

mod back;
mod looks;
mod model;
mod simulation;
mod table;
