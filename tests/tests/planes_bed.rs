//! The bed of the five data planes, without an agent: what real clients get for each fault, as
//! measured once in shared/data-planes.md. Every other test of the planes stands on these facts.
use anyhow::Result;
use h2::Reason;
use tests::backends::Behavior as B;
use tests::expect::Differences;
use tests::planes::client::{Client, Connection, Got};
use tests::planes::{Plane, Way, World, each};

/// What the clients of nginx, HAProxy, Envoy, Traefik and Caddy get.
type Statuses = [Option<u16>; 5];

const ERRORS: &[(&str, Statuses)] = &[
    ("none", some([503, 503, 503, 503, 503])),
    ("refused", some([502, 503, 503, 502, 502])),
    ("dropped", some([504, 503, 503, 504, 502])),
    ("rejected", some([502, 503, 503, 502, 502])),
    ("nobody", some([502, 503, 503, 502, 502])),
    ("no-route", some([502, 503, 503, 502, 502])),
    ("reset-request", some([502, 502, 503, 502, 502])),
    ("reset-unread", some([502, 502, 503, 502, 502])),
    ("fin-request", some([502, 502, 503, 502, 502])),
    ("reset-head", some([502, 502, 502, 500, 502])),
    ("fin-head", some([502, 502, 502, 500, 502])),
    ("hang", some([504, 504, 504, 504, 504])),
    (
        "garbage",
        [None, Some(502), Some(502), Some(500), Some(502)],
    ),
    (
        "tls-alert",
        [None, Some(502), Some(502), Some(500), Some(502)],
    ),
];

/// Bodies that end before their end.
const CUTS: &[(&str, Statuses)] = &[
    (
        "reset-body",
        [Some(200), Some(200), Some(200), None, Some(200)],
    ),
    (
        "fin-body",
        [Some(200), Some(200), Some(200), None, Some(200)],
    ),
    ("fin-chunked", some([200, 200, 200, 200, 200])),
    // Those written in Go have no timer for it.
    ("stall", [Some(200), Some(200), Some(200), None, None]),
];

/// What HAProxy answers to HTTP/2 with RST_STREAM and no status.
const REFUSED_STREAM: &[&str] = &[
    "dropped",
    "reset-request",
    "reset-unread",
    "fin-request",
    "reset-head",
    "fin-head",
];

const fn some(statuses: [u16; 5]) -> Statuses {
    let mut all = [None; 5];
    let mut at = 0;
    while at < all.len() {
        all[at] = Some(statuses[at]);
        at += 1;
    }
    all
}

fn of(plane: Plane, statuses: Statuses) -> Option<u16> {
    let known = Plane::ALL.into_iter().zip(statuses);
    known.into_iter().find(|(one, _)| *one == plane)?.1
}

fn errors(
    world: &World,
    plane: Plane,
    client: Client,
    differences: &mut Differences,
) -> Result<()> {
    for (word, statuses) in ERRORS {
        let status = of(plane, *statuses);
        let got = world.ask(
            client,
            client.at(Way::Single),
            &format!("/{word}/{}", client.word()),
        )?;
        let refused =
            plane == Plane::Haproxy && client == Client::H2 && REFUSED_STREAM.contains(word);
        let expected = if refused {
            Got {
                reset: Some(Reason::REFUSED_STREAM),
                ..Got::default()
            }
        } else {
            Got {
                status,
                complete: status.is_some(),
                reset: None,
            }
        };
        differences.check(got == expected, || {
            format!("{plane:?} {client:?} {word}: {got:?}, not {expected:?}")
        });
    }
    Ok(())
}

fn cuts(world: &World, plane: Plane, client: Client, differences: &mut Differences) -> Result<()> {
    for (word, statuses) in CUTS {
        let go = matches!(plane, Plane::Traefik | Plane::Caddy);
        if go && *word == "stall" {
            continue;
        }
        let path = format!("/{word}/{}", client.word());
        let got = world.ask(client, client.at(Way::Single), &path)?;
        // HAProxy ends the stream; where there is no Content-Length, nothing is missing.
        let ended = plane == Plane::Haproxy && client == Client::H2 && *word == "fin-chunked";
        let status = of(plane, *statuses);
        differences.check((got.status, got.complete) == (status, ended), || {
            format!("{plane:?} {client:?} {word}: {got:?}")
        });
        if client == Client::Plain {
            let entry = world.proxy.logged(&path)?;
            differences.check(entry.status == Some(200), || {
                format!("{plane:?}: {entry:?}")
            });
        }
    }
    Ok(())
}

#[test]
fn clients_get_the_measured_statuses() -> Result<()> {
    each(|plane| {
        let world = World::new(plane)?;
        let mut differences = Differences::default();
        for client in Client::ALL {
            for query in ["", "?status=502", "?status=503", "?status=504"] {
                let status = query
                    .split('=')
                    .next_back()
                    .and_then(|text| text.parse().ok());
                let path = format!("/ok/{}{query}", client.word());
                let got = world.ask(client, client.at(Way::Single), &path)?;
                let expected = (Some(status.unwrap_or(200)), true);
                differences.check((got.status, got.complete) == expected, || {
                    format!("{plane:?} {client:?} {path}: {got:?}")
                });
            }
            errors(&world, plane, client, &mut differences)?;
            cuts(&world, plane, client, &mut differences)?;
        }
        differences.finish(&world.proxy.output());
        Ok(())
    })
    .map(drop)
}

#[test]
fn every_request_is_logged_with_its_status() -> Result<()> {
    each(|plane| {
        let world = World::new(plane)?;
        for client in Client::ALL {
            let path = format!("/refused/{}", client.word());
            let got = world.ask(client, client.at(Way::Single), &format!("{path}?secret=1"))?;
            let entry = world.proxy.logged(&path)?;
            assert_eq!((entry.status, entry.method.as_str()), (got.status, "GET"));
            match plane {
                Plane::Nginx => assert_eq!(entry.flags, "502"),
                Plane::Haproxy => assert_eq!(entry.flags, "SC--"),
                Plane::Envoy => assert_eq!(entry.flags, "UF"),
                Plane::Traefik | Plane::Caddy => assert_eq!(entry.flags, ""),
            }
        }
        Ok(())
    })
    .map(drop)
}

#[test]
fn retries_hide_what_fails_before_the_request_is_sent() -> Result<()> {
    each(|plane| {
        let world = World::new(plane)?;
        for client in Client::ALL {
            for word in ["refused", "no-route", "nobody", "dropped"] {
                // Both turns, where endpoints take turns.
                for turn in 0..2 {
                    let path = format!("/{word}/{}-{turn}", client.word());
                    let got = world.ask(client, client.at(Way::Retry), &path)?;
                    assert_eq!((got.status, got.complete), (Some(200), true), "{path}");
                }
            }
        }
        Ok(())
    })
    .map(drop)
}

/// GET, then GET or POST, on a kept connection that the backend has closed in between.
fn race(world: &mut World, client: Client, method: &str) -> Result<Got> {
    let mut connection = Connection::open(world, client, client.at(Way::Pooled))?;
    let first = connection.request("GET", "/race/first", "")?;
    assert_eq!(first.status, Some(200), "{client:?}");
    world.backends.closed(B::Race)?;
    let body = if method == "POST" { "x" } else { "" };
    connection.request(method, "/race/second", body)
}

#[test]
fn a_kept_connection_meets_a_closed_backend() -> Result<()> {
    each(|plane| {
        let mut world = World::new(plane)?;
        for client in Client::ALL {
            let get = race(&mut world, client, "GET")?;
            let post = race(&mut world, client, "POST")?;
            let expected = match plane {
                Plane::Nginx => [Some(502); 2],
                Plane::Haproxy => [None; 2],
                Plane::Envoy => [Some(503); 2],
                Plane::Traefik | Plane::Caddy => [Some(200), Some(502)],
            };
            assert_eq!([get.status, post.status], expected, "{plane:?} {client:?}");
        }
        Ok(())
    })
    .map(drop)
}

#[test]
fn a_cancelled_stream_leaves_the_others_alone() -> Result<()> {
    each(|plane| {
        let mut world = World::new(plane)?;
        let to = world.at(Client::H2.at(Way::Single));
        let connection = tests::h2::Connection::open(&world.bed, to)?;
        let before = world.backends.requests(B::Hang)?;
        let lost = connection.ask("GET", "/hang/cancelled", b"")?;
        let slow = connection.ask("GET", "/ok/slow?ms=300", b"")?;
        tests::wait::holds("the backend asked", tests::agent::VERDICT, || {
            world
                .backends
                .requests(B::Hang)
                .is_ok_and(|now| now > before)
        })?;
        lost.cancel();
        let answer = slow.answer()?;
        assert_eq!(
            (answer.status, answer.complete),
            (Some(200), true),
            "{plane:?}"
        );
        assert_eq!(connection.get("/ok/after")?.status, Some(200), "{plane:?}");
        Ok(())
    })
    .map(drop)
}
