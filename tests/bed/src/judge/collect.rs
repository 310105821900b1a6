//! Collects the evidence.
