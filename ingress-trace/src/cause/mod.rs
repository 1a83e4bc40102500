//! From a flow to a finding: what it was (`reading`), why it was (`decide`), what the client got
//! (`answer`). Pure, and no stage looks back.
mod answer;
pub mod classify;
pub mod decide;
pub mod evidence;
pub mod explanation;
pub mod facts;
pub mod fix;
pub mod meaning;
pub mod reading;
mod strange;
pub mod taxonomy;
pub mod timers;
#[cfg(test)]
mod unread_tests;
