//! Why a Kubernetes Ingress answers 502, 503 or 504: the straight line from a kernel event to a
//! finding. See ARCHITECTURE.md for the stages and what each may not do.
pub mod agent;
pub mod allocator;
pub mod cause;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod conntrack;
pub mod counts;
pub mod event;
pub mod finding;
pub mod flow;
pub mod gap;
pub mod hold;
pub mod identity;
pub mod limits;
pub mod line;
pub mod netns;
pub mod ocsp;
pub mod past;
pub mod probe;
pub mod profiles;
pub mod settle;
pub mod sinks;
pub mod targets;
pub mod watched;
