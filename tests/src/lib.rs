//! The test bed: real namespaces, cgroups, nginx, backends and clients around the real agent.
//! Everything is on this machine and gone when its owner is dropped; nothing here knows the
//! agent's insides, only its public contract.
#[path = "../../xtask/src/apiserver.rs"]
#[allow(dead_code, reason = "xtask uses the rest")]
mod apiserver_place;
#[path = "../../xtask/src/bpf.rs"]
#[allow(dead_code, reason = "xtask uses the rest")]
mod tools;

pub mod agent;
pub mod apiserver;
pub mod backends;
pub mod bed;
pub mod cgroup;
pub mod client;
pub mod container;
pub mod edge;
pub mod expect;
pub mod fake_api;
pub mod guest;
pub mod h2;
pub mod h2_backend;
pub mod https;
pub mod ingress;
pub mod kernel;
pub mod kube_client;
pub mod kubeconfig;
pub mod kubelet;
pub mod log;
pub mod metrics;
pub mod netns;
pub mod nginx;
pub mod node;
pub mod objects;
pub mod planes;
pub mod process;
pub mod response;
pub mod scratch;
pub mod secure;
pub mod shop;
pub mod tls;
pub mod wait;
pub mod world;
pub mod wrk;
