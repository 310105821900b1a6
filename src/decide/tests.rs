//! Tests of the decisions: a table of situations, and a model that explores all of them.

mod back;
mod ending_pairs;
mod looks;
mod model;
mod run;
mod silent_nodes;
mod simulation;
mod stops;
mod table;
mod tidied;
mod unanswered;
