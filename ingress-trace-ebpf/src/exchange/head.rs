//! The kept head of a response -> its framing. Global functions, which verifiers check once and by
//! themselves: their loops would otherwise multiply with everything that leads to them.
use crate::{conn::Conn, payload::opaque};
use ingress_trace_common::{
    http::{self, Mark, RESPONSE_KEPT, WINDOW, framing},
    sample::flag,
};

/// Looks through the kept head (rare: once per connection, or per large response).
#[inline(always)]
pub fn scan(conn: &mut Conn) {
    // Zeroes that the compiler does not know: known ones would become a loop of single bytes.
    let zero = opaque(0);
    conn.scan = http::Scan {
        length: zero,
        end: zero as u32,
        length_at: zero as u32,
        encoding_at: zero as u32,
        reserved: zero as u32,
    };
    scan_front(conn);
    if conn.scan.end == 0 && conn.response_kept as usize > WINDOW {
        scan_back(conn);
    }
    framing_of_head(conn);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_front(conn: *mut Conn) -> u32 {
    // SAFETY: null or a whole `Conn`, as the verifier makes sure at every call.
    if let Some(conn) = unsafe { conn.as_mut() } {
        look::<0>(conn);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_back(conn: *mut Conn) -> u32 {
    // SAFETY: as above.
    if let Some(conn) = unsafe { conn.as_mut() } {
        look::<WINDOW>(conn);
    }
    0
}

#[inline(always)]
pub(super) fn look<const FROM: usize>(conn: &mut Conn) {
    let found = &raw mut conn.scan;
    // Through memory, volatile: what is kept in registers would be one more state per byte.
    let mark = |mark: Mark, at: u32| {
        // SAFETY: fields of the live `conn`.
        unsafe {
            match mark {
                Mark::End => core::ptr::write_volatile(&raw mut (*found).end, at),
                Mark::Length => core::ptr::write_volatile(&raw mut (*found).length_at, at),
                Mark::Encoding => core::ptr::write_volatile(&raw mut (*found).encoding_at, at),
            }
        }
    };
    http::scan::<FROM>(&conn.response_head, conn.response_kept, mark);
}

/// Works out the framing from what the looks have found.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn framing_of_head(conn: *mut Conn) -> u32 {
    // SAFETY: as above.
    let Some(conn) = (unsafe { conn.as_mut() }) else {
        return 0;
    };
    let mut scan = conn.scan;
    if scan.length_at != 0 {
        scan.length = http::length(&conn.response_head, scan.length_at);
        conn.scan.length = scan.length;
    }
    let (kept, bytes) = (conn.response_kept, conn.response_bytes);
    conn.framing = http::framing_of(&scan, conn.status, conn.has(flag::HEAD), kept, bytes);
    if conn.framing == framing::CHUNKED && conn.tail == 0 {
        // A mask, not a comparison: verifiers follow it whatever the compiler makes of it.
        let at = kept.wrapping_sub(8) as usize & (RESPONSE_KEPT - 1);
        let mut tail = 0u64;
        let mut i = 0;
        while i < 8 {
            tail = tail << 8 | conn.response_head[at + i] as u64;
            i += 1;
        }
        conn.tail = tail;
    }
    0
}
