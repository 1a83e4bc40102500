//! One file per command: its options in, a run of the agent out.
pub mod explain;
pub mod out;
pub mod run;
pub mod watch;
