//! What crosses the kernel boundary: samples, aggregates, configuration, and the HTTP framing
//! that both sides agree on. `no_std`, no I/O; everything is `repr(C)` without hidden padding.
#![no_std]

pub mod aggregate;
pub mod config;
pub mod http;
pub mod sample;
