//! Why a Kubernetes Ingress answers 502, 503 or 504: the straight line from a kernel event to a
//! finding. See ARCHITECTURE.md for the stages and what each may not do.
pub mod cause;
pub mod cli;
pub mod counts;
pub mod finding;
pub mod limits;
pub mod probe;
pub mod profiles;
pub mod sinks;
pub mod targets;
