//! Data packets -> exchanges: where a request starts, where its response begins, what status it
//! has, how its end is told. Retransmitted, reordered and coalesced segments must not fool it.
mod answer;
mod aside;
mod detect;
mod head;
mod request;
mod response;

pub use head::scan;
pub use request::{follow, request_data};
pub use response::response_data;

/// Smallest data that opens an exchange while payload is not read, for the same reason.
const UNREAD_REQUEST: u32 = 40;

/// PING and GOAWAY in a TLS record: a server answers them with the same.
const PING: u32 = 39;

/// Most of a request head that is taken from one later segment.
const APPENDED: usize = 256;

#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}
