//! `cgroup_skb` ingress and egress (Linux 4.10; socket storage 5.2): every TCP packet of the
//! pod's sockets, before TCP has looked at it (ingress) or after it has left (egress). Twice per
//! proxied request and leg: data and its answer; pure acknowledgements return at once.
use core::hint::cold_path;

use crate::{
    conn::{Conn, server},
    exchange,
    payload::{ACK, FIN, Packet, RST},
    sock::{Task, Tcp},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_ESTABLISHED},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use ingress_trace_common::sample::role;

/// A packet to the pod. Always lets it pass.
#[cgroup_skb(ingress)]
pub fn packet_in(context: SkBuffContext) -> i32 {
    packet(context.skb.skb, false);
    1
}

/// A packet from the pod. Always lets it pass.
#[cgroup_skb(egress)]
pub fn packet_out(context: SkBuffContext) -> i32 {
    packet(context.skb.skb, true);
    1
}

#[inline(always)]
fn packet(skb: *mut __sk_buff, egress: bool) {
    // SAFETY: `skb` is the context of a cgroup_skb program.
    let Some(mut packet) = (unsafe { Packet::read(skb, egress) }) else {
        return;
    };
    // SAFETY: as above.
    let sk = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    // SAFETY: a socket that is not null; request and time-wait sockets have no storage.
    let Some(conn) = (unsafe { Conn::of(sk.cast()) }) else {
        return;
    };
    if conn.server == server::OTHER {
        return;
    }
    if packet.len != 0 {
        let mut tcp = None;
        if egress {
            // SAFETY: as above.
            tcp = unsafe { Tcp::of(sk.cast()) };
            packet.clock = tcp.map_or(0, Tcp::clock);
        }
        if conn.upstream() == egress {
            exchange::request_data(conn, &packet, tcp);
        } else {
            if egress && conn.server == server::UNKNOWN {
                recognize(conn, tcp);
            }
            exchange::response_data(conn, &packet, tcp);
        }
    }
    if !egress && conn.role == role::DOWNSTREAM && packet.flags & (FIN | RST) != 0 {
        // SAFETY: as above; a field of every socket.
        let state = unsafe { core::ptr::read_volatile(&raw const (*sk).state) };
        if state != BPF_TCP_ESTABLISHED {
            return; // the controller had closed first: the client did not leave
        }
    }
    if !egress && packet.flags & RST != 0 {
        conn.rst_in = 1;
        if packet.flags & ACK != 0 {
            conn.rst_ack = 1;
            conn.reset_ack = packet.ack;
        }
    } else if !egress && packet.flags & FIN != 0 {
        conn.fin_in = 1;
    }
}

/// The process that sends on an accepted connection tells whether a data plane listens there.
#[inline(always)]
fn recognize(conn: &mut Conn, tcp: Option<Tcp>) {
    cold_path();
    if tcp.is_some_and(Tcp::owned) {
        let known = Task::current().is_data_plane();
        conn.server = if known {
            server::DATA_PLANE
        } else {
            server::OTHER
        };
    }
}
