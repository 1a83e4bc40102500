//! In: a connection as its own socket names it. Out: where it really leads, when the node translates
//! the destination (kube-proxy's DNAT or IPVS: a Service's address to a pod's). Reads the kernel's
//! connection tracking over netlink (`IPCTNL_MSG_CT_GET`); the entry outlives the connection by
//! 10 s (`CLOSE`) and more. One entry per question, never a dump.
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use crate::netns;

/// Connection tracking of the node.
pub struct Conntrack {
    /// This process's network namespace, and the first process's where it is another.
    sockets: Vec<Socket>,
}

impl Conntrack {
    /// Opens it. An agent in a pod network of its own asks the node's through the first process,
    /// which it only sees in the host's PID namespace.
    pub fn open(proc: &Path) -> Result<Self> {
        let mut sockets = vec![socket().context("failed to open connection tracking")?];
        let (own, first) = (proc.join("self/ns/net"), proc.join("1/ns/net"));
        let id = |path: &Path| fs::read_link(path).ok();
        if id(&first).is_some_and(|first| Some(first) != id(&own))
            && let Ok(other) = netns::inside(&first, socket)
        {
            sockets.push(other);
        }
        Ok(Self { sockets })
    }

    /// Where the TCP connection from `local` to `remote` really leads, if it is translated and known.
    pub fn destination(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        self.sockets
            .iter()
            .find_map(|socket| ask(socket, local, remote).ok().flatten())
            .filter(|real| *real != remote)
    }
}

fn socket() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    // The kernel answers within the request; nothing is there to wait for.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn ask(socket: &Socket, local: SocketAddr, remote: SocketAddr) -> Result<Option<SocketAddr>> {
    let family = match remote.ip() {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let tuple = ConntrackAttribute::CtaTupleOrig(vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(local.ip()),
            IPTuple::DestinationAddress(remote.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(Protocol::Tcp),
            ProtoTuple::SourcePort(local.port()),
            ProtoTuple::DestinationPort(remote.port()),
        ]),
    ]);
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let request = NetfilterMessage::new(
        NetfilterHeader::new(family, 0, 0),
        ConntrackMessage::Get(vec![tuple]),
    );
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<NetfilterMessage>::deserialize(&answer)?;
    Ok(match answer.payload {
        NetlinkPayload::InnerMessage(NetfilterMessage {
            inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
            ..
        }) => replier(&attributes),
        // ENOENT: not tracked.
        _ => None,
    })
}

/// Who answers: the source of the reply direction.
fn replier(attributes: &[ConntrackAttribute]) -> Option<SocketAddr> {
    let reply = attributes.iter().find_map(|attribute| match attribute {
        ConntrackAttribute::CtaTupleReply(reply) => Some(reply),
        _ => None,
    })?;
    let address = reply.iter().find_map(|tuple| match tuple {
        Tuple::Ip(parts) => parts.iter().find_map(|part| match part {
            IPTuple::SourceAddress(address) => Some(*address),
            _ => None,
        }),
        _ => None,
    })?;
    let port = reply.iter().find_map(|tuple| match tuple {
        Tuple::Proto(parts) => parts.iter().find_map(|part| match part {
            ProtoTuple::SourcePort(port) => Some(*port),
            _ => None,
        }),
        _ => None,
    })?;
    Some(SocketAddr::new(address, port))
}
