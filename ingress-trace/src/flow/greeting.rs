//! In: what clients that cannot be read got, by time. Out: whether it may be what comes before answers on
//! a new connection (session tickets, SETTINGS), and whether an answer came before the end. Pure.
use std::collections::BTreeMap;
use std::ops::Bound;

use super::failures::{FIRST, LAST, Place};
use super::fit::{Said, said};
use super::times::{BEHIND, NEAR};
use crate::cause::taxonomy::Protocol;
use crate::event::{Event, Kind};

/// Whether a request came on a connection so young that what is written behind it may be a greeting: the
/// client's own first frames may count as one.
fn young(client: &Event) -> bool {
    client.exchange.number <= 2 && said(client) == Said::Bytes
}

/// Whether more of the first answer on a connection that cannot be read follows: these bytes may
/// be session tickets and SETTINGS.
pub fn goes_on(clients: [&BTreeMap<Place, Event>; 2], place: &Place, client: &Event) -> bool {
    let until = (place.0.saturating_add(NEAR), LAST);
    let later = (Bound::Excluded(*place), Bound::Included(until));
    let more = |clients: &BTreeMap<Place, Event>| {
        let mut later = clients.range(later);
        later.any(|(other, event)| other.1 == place.1 && said(event) == Said::Bytes)
    };
    young(client) && clients.into_iter().any(more)
}

/// When the newest was written before this, where all that was may be a greeting.
pub fn until(client: &Event) -> Option<u64> {
    let write = client.kind == Kind::DownWrite && young(client);
    client.last_time.filter(|_| write)
}

/// Whether a connection that cannot be read ended right behind bytes: its client had got them.
pub fn had_bytes(batch: &BTreeMap<Place, Event>, place: &Place) -> bool {
    let end = &batch[place];
    let unread = end.protocol != Some(Protocol::Http1) && end.kind == Kind::DownEnd;
    let from = (place.0.saturating_sub(BEHIND), FIRST);
    unread
        && batch
            .range((Bound::Included(from), Bound::Excluded(*place)))
            .any(|(other, event)| other.1 == place.1 && said(event) == Said::Bytes)
}
