//! In: a network namespace. Out: its TCP listeners with how many connections wait at each and how many
//! may. Asks the kernel over netlink (`SOCK_DIAG_BY_FAMILY`, listeners only, so that its cost does not
//! grow with the connections) on a thread of its own; changes nothing in the namespace.
use std::net::SocketAddr;

use anyhow::{Result, bail};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags,
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

use super::sockets::Queue;
use crate::netns;
use crate::targets::NetworkNamespace;

/// Most listeners of a namespace.
const MOST: usize = 4096;

/// All listeners with the inodes of their sockets. Entering the namespace takes CAP_SYS_ADMIN.
pub(super) fn listeners(namespace: &NetworkNamespace) -> Result<Vec<(Queue, u64)>> {
    netns::inside(&namespace.path, || {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        let mut found = dump(&socket, AF_INET, SocketId::new_v4())?;
        found.extend(dump(&socket, AF_INET6, SocketId::new_v6())?);
        Ok(found)
    })
}

fn dump(socket: &Socket, family: u8, any: SocketId) -> Result<Vec<(Queue, u64)>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id: any,
    });
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = Vec::new();
    loop {
        // A part of the dump is made while it is being received: nothing is there to wait for.
        let (part, _) = socket.recv_from_full()?;
        if take(&part, &mut found)? || found.len() >= MOST {
            return Ok(found);
        }
    }
}

/// Takes what one datagram tells; whether it was the last.
fn take(mut part: &[u8], found: &mut Vec<(Queue, u64)>) -> Result<bool> {
    while !part.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(part)?;
        let length = usize::try_from(message.header.length)?.next_multiple_of(4);
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                found.push(listener(&response));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => bail!("{error}"),
            _ => {}
        }
        part = part.get(length.max(1)..).unwrap_or_default();
    }
    Ok(false)
}

fn listener(response: &InetResponse) -> (Queue, u64) {
    let header = &response.header;
    let (ip, port) = (
        header.socket_id.source_address,
        header.socket_id.source_port,
    );
    let queue = Queue {
        local: SocketAddr::new(ip.to_canonical(), port),
        waiting: header.recv_queue,
        limit: Some(header.send_queue),
    };
    (queue, u64::from(header.inode))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;

    use super::*;
    use crate::limits::sockets;
    use crate::targets::network_namespaces;

    #[test]
    fn the_kernel_tells_how_many_wait_and_how_many_may() {
        let own = std::process::id();
        let namespaces = network_namespaces(Path::new("/proc"), &[own]);
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // IPv6 may be off
            };
            let local = listener.local_addr().expect("it listens");
            let waiting = TcpStream::connect(local).expect("its queue has room");
            // Without CAP_SYS_ADMIN there is nothing to compare.
            let Ok(found) = listeners(&namespaces[0]) else {
                return;
            };
            let of =
                |all: &[(Queue, u64)]| all.iter().find(|(queue, _)| queue.local == local).copied();
            let (queue, inode) = of(&found).expect("it is told");
            assert_eq!(queue.waiting, 1);
            assert!(queue.limit.is_some_and(|limit| limit >= 1) && !queue.is_full());
            let shown = sockets::listeners(Path::new("/proc"), own).expect("own files");
            let (same, held) = of(&shown).expect("it is shown");
            assert_eq!((same.waiting, same.limit, held), (1, None, inode));
            drop(waiting);
        }
    }
}
