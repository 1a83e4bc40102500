//! Whose an address is: the cluster's state as the API tells it, with its recent past.
pub mod object;
pub mod partial;
