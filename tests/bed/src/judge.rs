//! The judge: looks at what happened after a test, and says which invariants were broken.
//!
//! It reads both API servers' audit logs, EC2's log, the histories of the volumes and the live
//! objects ([`Evidence`]), knows what the test was about ([`Case`]), and returns [`Violation`]s.
//! [`judge`] is pure: all I/O is in [`Evidence::collect`] and [`Case::for_workload`]. It judges the
//! tool by the requests that it sent, not by where things ended: an end state alone misses harm.
//!
//! One function per invariant, named by its number, in one file per group:
//!
//! | file | invariants |
//! |---|---|
//! | `volumes` | I-1, I-3, I-23: what happened on the volumes and in EC2 |
//! | `policy` | I-2: reclaim policies |
//! | `creation` | I-4, I-5, I-7, I-13: what is created, when, and how it was translated |
//! | `gate` | I-6, I-8: what must have been looked at before an act |
//! | `unknown` | I-22: a read that failed is never taken for an answer |
//! | `calls` | I-9, I-10, I-21: the form and the target of each single call |
//! | `owners` | I-10, I-11, I-19: survivors and owner references |
//! | `state` | I-12, I-14, I-18, I-24: what the tool keeps, repeats and leaves |
//! | `ending` | I-15, I-16: what is left at the end |
//!
//! All clocks are those of one machine, so times of different logs may be compared.

use std::fmt;

mod calls;
mod case;
mod collect;
mod creation;
mod ending;
mod event;
mod evidence;
mod gate;
mod holders;
#[cfg(test)]
mod made;
mod owners;
mod policy;
mod state;
mod unknown;
mod view;
mod volumes;

pub use case::{Case, Expected, Order, SetVolume};
pub use event::Event;
pub use evidence::{Evidence, Object, Snapshot};
use view::View;

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant, such as `I-6`.
    pub invariant: &'static str,
    /// What was done, or found, against it.
    pub what: String,
    /// The lines of the logs that show it.
    pub evidence: Vec<String>,
}

impl Violation {
    fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Violation { invariant, what: what.into(), evidence: Vec::new() }
    }

    fn shown_by(mut self, event: &Event) -> Self {
        self.evidence.push(event.line());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)?;
        for line in &self.evidence {
            write!(f, "\n      {line}")?;
        }
        Ok(())
    }
}

/// An invariant: a pure function of what was seen.
type Invariant = fn(&View<'_>) -> Vec<Violation>;

/// All invariants that are judged, in their order.
const INVARIANTS: &[Invariant] = &[
    volumes::i1_one_user_at_a_time,
    policy::i2_retain_while_it_matters,
    volumes::i3_ec2_is_only_described,
    creation::i4_created_without_server_fields,
    creation::i5_claims_only_on_their_own_volume,
    gate::i6_gate_before_a_pod_may_start,
    creation::i7_set_with_no_replicas_after_the_pairs,
    gate::i8_conditions_of_each_pod_delete,
    calls::i9_preconditions_everywhere,
    calls::i10_sets_are_orphaned,
    owners::i10_pods_survive_the_freeze,
    owners::i11_no_dangling_owner,
    state::i12_plan_while_it_matters,
    creation::i13_translation_keeps_the_volume,
    state::i14_nothing_twice,
    ending::i15_rolled_back,
    ending::i16_finalized,
    state::i18_nothing_after_a_failure,
    owners::i19_survivors_of_a_rollback,
    calls::i21_only_the_sets_own_objects,
    unknown::i22_unknown_is_never_absence,
    volumes::i23_the_same_bytes,
    state::i24_nothing_leaks,
];

/// Returns every violation of the invariants; none when the tool did all as it must.
pub fn judge(evidence: &Evidence, case: &Case) -> Vec<Violation> {
    let view = View::new(evidence, case);
    INVARIANTS.iter().flat_map(|invariant| invariant(&view)).collect()
}
