//! In: generated samples and any bytes. Out: proof that decoding keeps every fact, and refuses what
//! has no meaning without a panic.
use ingress_trace_common::sample::SIZE;
use proptest::prelude::*;

use super::*;

fn sample() -> impl Strategy<Value = Sample> {
    let bytes = prop::collection::vec(any::<u8>(), SIZE);
    let fields = (
        1..=kind::REFUSED,
        1u8..=2,
        0..=phase::CONNECT,
        0..=proto::UNREAD,
        0..=framing::UNKNOWN,
    );
    (bytes, fields).prop_map(|(bytes, (kind, role, phase, proto, framing))| Sample {
        kind,
        role,
        phase,
        proto,
        framing,
        ..Sample::from_bytes(&bytes).expect("the size of a sample")
    })
}

fn cut(bytes: &[u8], len: u8) -> &[u8] {
    &bytes[..bytes.len().min(len.into())]
}

proptest! {
    #[test]
    fn the_facts_of_a_sample_are_those_of_its_event(sample in sample()) {
        let event = Event::decode(sample.as_bytes()).expect("a sample with meaning");
        prop_assert_eq!(event.time, sample.time);
        prop_assert_eq!(event.cgroup, sample.cgroup);
        prop_assert_eq!(event.exchange.cookie, sample.cookie);
        prop_assert_eq!(event.exchange.number, sample.exchange.max(1));
        let prev = event.prev.map_or((0, 0), |prev| (prev.cookie, prev.number));
        let told = if sample.prev_cookie == 0 { 0 } else { sample.prev_exchange.max(1) };
        prop_assert_eq!(prev, (sample.prev_cookie, told));
        prop_assert_eq!(event.tid, (sample.flags & flag::PROCESS != 0).then_some(sample.tid));
        prop_assert_eq!(event.pid, sample.tgid);
        prop_assert_eq!(event.flags.0, sample.flags);
        prop_assert_eq!(event.framing, sample.framing);
        prop_assert_eq!(event.request_bytes, sample.request_bytes);
        prop_assert_eq!(event.response_bytes, sample.response_bytes);
        prop_assert_eq!(event.expected_bytes, sample.expected_bytes);
        prop_assert_eq!(event.retransmits, sample.retransmits);
        prop_assert_eq!(event.acked, sample.acked);
        prop_assert_eq!(event.unread, sample.unread);
        let handshake = sample.proto == proto::TLS && sample.exchange == 0;
        prop_assert_eq!(event.handshake, handshake);
        prop_assert_eq!(event.errno.unwrap_or(0), sample.errno);
        let strange = sample.flags & flag::NOT_HTTP != 0;
        prop_assert_eq!(event.strange.is_some(), strange);
        prop_assert_eq!(event.status.unwrap_or(0), if strange { 0 } else { sample.status });
        prop_assert_eq!(event.local.port(), sample.local_port);
        prop_assert_eq!(event.remote.port(), sample.remote_port);
    }

    #[test]
    fn times_are_kept_and_zero_is_none(sample in sample(), zero in any::<bool>()) {
        let sample = if zero {
            Sample { connect_time: 0, request_time: 0, last_time: 0, idle: 0, ..sample }
        } else {
            sample
        };
        let event = Event::decode(sample.as_bytes()).expect("a sample with meaning");
        let told = [
            event.connect_time, event.established_time, event.request_time, event.response_time,
            event.last_time, event.idle,
        ];
        let sent = [
            sample.connect_time, sample.established_time, sample.request_time,
            sample.response_time, sample.last_time, sample.idle,
        ];
        for (told, sent) in told.into_iter().zip(sent) {
            prop_assert_eq!(told, (sent != 0).then_some(sent));
        }
    }

    #[test]
    fn a_request_is_its_bytes_up_to_their_lengths(
        sample in sample(), method in "[A-Z]{1,8}", host in "[a-z.]{0,64}", path in "/[a-z]{0,127}",
    ) {
        let mut sample = Sample {
            method_len: method.len() as u8,
            host_len: host.len() as u8,
            path_len: path.len() as u8,
            ..sample
        };
        sample.method[..method.len()].copy_from_slice(method.as_bytes());
        sample.host[..host.len()].copy_from_slice(host.as_bytes());
        sample.path[..path.len()].copy_from_slice(path.as_bytes());
        let event = Event::decode(sample.as_bytes()).expect("a sample with meaning");
        let host = (!host.is_empty()).then_some(host);
        prop_assert_eq!(event.request, Some(Request { method, host, path }));
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2 * SIZE)) {
        let decoded = Event::decode(&bytes);
        prop_assert!(bytes.len() == SIZE || decoded == Err(DecodeError::Size(bytes.len())));
    }

    #[test]
    fn any_bytes_of_the_right_size_are_an_event_or_name_the_wrong_field(sample in sample(), at in 0..5, value in any::<u8>()) {
        let mut sample = sample;
        let (field, most, name) = match at {
            0 => (&mut sample.kind, kind::REFUSED, "kind"),
            1 => (&mut sample.role, role::DOWNSTREAM, "role"),
            2 => (&mut sample.phase, phase::CONNECT, "phase"),
            3 => (&mut sample.proto, proto::UNREAD, "protocol"),
            _ => (&mut sample.framing, framing::UNKNOWN, "framing"),
        };
        *field = value;
        let least = u8::from(at < 2);
        let decoded = Event::decode(sample.as_bytes());
        if (least..=most).contains(&value) {
            prop_assert!(decoded.is_ok());
        } else {
            prop_assert_eq!(decoded, Err(DecodeError::Field(name, value)));
        }
    }

    #[test]
    fn strings_are_cut_at_their_lengths_and_never_beyond_their_room(sample in sample()) {
        let event = Event::decode(sample.as_bytes()).expect("a sample with meaning");
        let method = event.request.map(|request| request.method).unwrap_or_default();
        prop_assert_eq!(method, String::from_utf8_lossy(cut(&sample.method, sample.method_len)));
    }
}

fn blank() -> Sample {
    let sample = Sample::from_bytes(&[0; SIZE]).expect("the size of a sample");
    Sample {
        kind: kind::RESET,
        role: role::UPSTREAM,
        ..sample
    }
}

#[test]
fn mapped_addresses_are_told_as_ipv4_and_others_as_they_are() {
    let mut sample = blank();
    sample.remote_address = "::ffff:10.1.2.3".parse::<Ipv6Addr>().unwrap().octets();
    sample.local_address = "fd00::7".parse::<Ipv6Addr>().unwrap().octets();
    (sample.remote_port, sample.local_port) = (80, 81);
    let event = Event::decode(sample.as_bytes()).unwrap();
    assert_eq!(event.remote.to_string(), "10.1.2.3:80");
    assert_eq!(event.local.to_string(), "[fd00::7]:81");
}

#[test]
fn a_target_in_absolute_form_is_split_into_host_and_path() {
    let target = |target: &str| absolute(target).map(|(host, path)| format!("{host} {path}"));
    assert_eq!(
        target("http://shop.example/cart").as_deref(),
        Some("shop.example /cart")
    );
    assert_eq!(
        target("https://shop.example:8443").as_deref(),
        Some("shop.example:8443 /")
    );
    assert_eq!(target("/http://elsewhere/"), None);
    assert_eq!(target("*"), None);
}

#[test]
fn an_error_says_what_is_wrong_with_a_sample() {
    assert_eq!(
        Event::decode(&[0; 3]).unwrap_err().to_string(),
        format!("a sample of 3 bytes where {SIZE} are expected")
    );
    let sample = Sample {
        phase: 9,
        ..blank()
    };
    let error = Event::decode(sample.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "a sample whose phase is 9");
}

#[test]
fn an_exchange_begins_with_its_request_or_with_its_connect() {
    let began = |request_time, connect_time| {
        Event::decode(
            Sample {
                request_time,
                connect_time,
                ..blank()
            }
            .as_bytes(),
        )
        .unwrap()
        .began()
    };
    assert_eq!(began(7, 3), Some(7));
    assert_eq!(began(0, 3), Some(3));
    assert_eq!(began(0, 0), None);
}
