//! Causes: the vocabulary and the decision.
pub mod meaning;
pub mod taxonomy;
