//! Causes: the vocabulary and the decision.
pub mod taxonomy;
