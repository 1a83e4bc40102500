//! The kernel edge.
pub mod btf;
pub mod preflight;
