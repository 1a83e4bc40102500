//! In: quantities, ports, times and readings. Out: proof that what is derived of them is so, or absent.
use super::*;
use crate::cluster::index::{PodThen, Since, Standing};
use crate::limits::{Pressure, Usage};

#[test]
fn quantities_double_and_what_is_none_does_not() {
    for (one, two) in [
        ("512Mi", "1024Mi"),
        ("500m", "1000m"),
        ("1", "2"),
        ("1.5", "3"),
    ] {
        assert_eq!(twice(one).as_deref(), Some(two));
    }
    for none in ["", "0", "Mi", "1 Gi", "1e3", "-1"] {
        assert_eq!(twice(none), None, "{none}");
    }
}

#[test]
fn the_right_port_is_named_only_where_there_is_one() {
    let inside = |ports: &[u16]| Inside {
        listening: Some(ports.iter().copied().collect()),
        ..Inside::default()
    };
    let found = |ports: &[u16]| right_port(Some(80), None, Some(&inside(ports)));
    assert_eq!(found(&[8080]).as_deref(), Some("8080"));
    assert_eq!((found(&[]), found(&[8080, 9090])), (None, None));
}
#[test]
fn the_time_since_a_deletion_is_an_upper_bound() {
    let at = |ms| Timestamp::from_millisecond(ms).expect("a time");
    let pod = Arc::new(Pod::default());
    let known = |since| PodThen {
        pod: Arc::clone(&pod),
        newest: Arc::clone(&pod),
        standing: Standing::Held,
        terminating: Some(Since {
            at: at(since),
            exact: true,
        }),
        ready: None,
        ready_since: None,
        ended: Vec::new(),
        looked: None,
    };
    let passed = |since, failed| {
        let who = Identity {
            known: Some(known(since)),
            ..Identity::default()
        };
        ending(&who, at(failed))
    };
    assert_eq!(passed(1_000, 1_000), Some(1));
    assert_eq!(passed(1_000, 3_999), Some(3));
    assert_eq!(ending(&Identity::default(), at(0)), None);
}

#[test]
fn a_backend_was_short_of_what_held_it_back_and_of_nothing_else() {
    let held = |nanos| Inside {
        throttling: Some(Throttling {
            periods: 9,
            nanos,
            ..Throttling::default()
        }),
        span: Duration::from_micros(1),
        ..Inside::default()
    };
    assert_eq!(short(&held(200)), [Short::Cpu]);
    assert_eq!(short(&held(199)), []);
    let waits = |nanos| Inside {
        pressure: Some(Pressure {
            cpu: nanos,
            memory: 0,
        }),
        ..held(0)
    };
    assert_eq!(short(&waits(500)), [Short::Node]);
    assert_eq!(short(&waits(499)), []);
    let both = Inside {
        pressure: waits(500).pressure,
        ..held(500)
    };
    assert_eq!(short(&both), [Short::Cpu]);
    let crowded = Inside {
        overflows: Some(1),
        descriptors: Some(ProcessUsage {
            pid: 1,
            usage: Usage { used: 9, limit: 10 },
        }),
        ..Inside::default()
    };
    assert_eq!(short(&crowded), [Short::Queue, Short::Files]);
    assert_eq!(short(&Inside::default()), []);
}
