//! Whose an address is: the cluster's state as the API tells it, with its recent past.
//! `link` and below ask the API; all else is plain state.
mod api;
pub mod client;
mod failed;
mod fetch;
pub mod index;
pub mod link;
mod notice;
pub mod object;
mod pace;
pub mod partial;
mod resource;
pub mod stats;
mod tell;
pub mod view;
mod watch;

pub use api::Patience;
pub use watch::{Learnt, Update};
