//! The link to a cluster's API, against a stand-in and against a real server.
mod faults;
mod server;
mod stand_in;
mod view;
