//! The pure part of the agent, fed with encoded samples in simulated time: how many a processor
//! decodes, joins and classifies in a second. No kernel, no sinks.
use ingress_trace::cause::classify::{Context, Known, finding, reading};
use ingress_trace::cause::evidence::Shortage;
use ingress_trace::cause::taxonomy::Controller;
use ingress_trace::cause::timers::Timers;
use ingress_trace::event::Event;
use ingress_trace::finding::Ingress;
use ingress_trace::flow::{Joiner, Waits};
use ingress_trace::settle::Settle;
use ingress_trace_common::sample::{SIZE, Sample, flag, kind, phase, proto, role};

use anyhow::{Context as _, Result, ensure};

use crate::Size;
use crate::table::{print, progress};
use crate::usage::thread_seconds;

/// Failures per simulated second.
const RATES: [u64; 3] = [100, 2_000, 20_000];
/// As the agent empties its ring.
const TICK: u64 = 25_000_000;
const SECOND: u64 = 1_000_000_000;
/// Samples that a refused connect sends: it, its release, the client's 502.
const SAMPLES: u64 = 3;

/// Processor seconds by stage.
#[derive(Default)]
struct Used {
    decode: f64,
    join: f64,
    classify: f64,
}

impl Used {
    fn all(&self) -> f64 {
        self.decode + self.join + self.classify
    }
}

/// Measures and prints.
pub fn measure(size: Size) -> Result<()> {
    progress("the pure line");
    let mut rows = Vec::new();
    for rate in RATES {
        let failures = rate * size.line.as_secs();
        let mut line = Simulation::new();
        line.run(rate, failures)?;
        let found = line.found;
        ensure!(found == failures, "{found} findings of {failures} failures");
        let (used, each) = (line.used.all(), |seconds: f64| {
            format!("{:.2}", seconds * 1e6 / failures as f64)
        });
        rows.push(vec![
            rate.to_string(),
            format!("{:.0}", (failures * SAMPLES) as f64 / used),
            each(used),
            each(line.used.decode),
            each(line.used.join),
            each(line.used.classify),
            format!("{:.1} %", used / size.line.as_secs_f64() * 100.0),
        ]);
    }
    print(
        &format!(
            "The pure line, {} simulated seconds at each rate, {SAMPLES} samples a failure",
            size.line.as_secs()
        ),
        &[
            "failures/s",
            "samples per core-second",
            "us/failure",
            "decode and order",
            "join",
            "classify",
            "share of a core",
        ],
        &rows,
    );
    Ok(())
}

/// The line with its state.
struct Simulation {
    settle: Settle,
    joiner: Joiner,
    timers: Timers,
    context: Context,
    used: Used,
    found: u64,
}

impl Simulation {
    fn new() -> Self {
        let waits = Waits {
            settle: 200_000_000,
            release: SECOND,
            relay: 3 * SECOND,
            retry: 15 * SECOND,
        };
        Self {
            settle: Settle::new(50_000_000),
            joiner: Joiner::new(waits),
            timers: Timers::default(),
            context: Context {
                controller: Controller::Nginx,
                ingress: Ingress::default(),
                clock: 0,
            },
            used: Used::default(),
            found: 0,
        }
    }

    fn run(&mut self, rate: u64, failures: u64) -> Result<()> {
        let time = |number: u64| SECOND + number * SECOND / rate;
        // What is left after the last failure settles within a second.
        let (mut sent, end) = (0, time(failures) + 2 * SECOND);
        for now in (SECOND..end).step_by(TICK as usize) {
            let mut samples = Vec::new();
            while sent < failures && time(sent) < now {
                samples.extend(encoded(sent, time(sent)));
                sent += 1;
            }
            self.tick(&samples, now)?;
        }
        Ok(())
    }

    fn tick(&mut self, samples: &[[u8; SIZE]], now: u64) -> Result<()> {
        let start = thread_seconds();
        for bytes in samples {
            self.settle
                .push(Event::decode(bytes).context("failed to decode")?);
        }
        let decoded = thread_seconds();
        while let Some(event) = self.settle.pop(now) {
            self.joiner.push(event);
        }
        let flows = self.joiner.settled(now);
        let joined = thread_seconds();
        for flow in flows {
            let reading = reading(&flow, self.context.controller, &mut self.timers);
            let Some(reading) = reading else { continue };
            let shortage = Shortage::default();
            let known = Known::alone(&shortage);
            let finding = finding(&flow, reading, &known, &self.timers, &self.context);
            self.found += u64::from(finding.status == Some(502));
        }
        self.used.decode += decoded - start;
        self.used.join += joined - decoded;
        self.used.classify += thread_seconds() - joined;
        Ok(())
    }
}

/// The samples of one refused connect, 60 microseconds in all.
fn encoded(number: u64, time: u64) -> [[u8; SIZE]; SAMPLES as usize] {
    let upstream = 2 * number + 1;
    let mut failed = blank();
    failed.time = time;
    failed.cookie = upstream;
    failed.exchange = 1;
    failed.connect_time = time - 40_000;
    failed.kind = kind::CONNECT_FAILED;
    failed.role = role::UPSTREAM;
    failed.phase = phase::CONNECT;
    failed.errno = 111;
    failed.flags = flag::SYN | flag::RST_IN;
    let mut released = failed;
    released.time = time + 10_000;
    released.kind = kind::RELEASED;
    released.flags |= flag::RELEASED | flag::FAILED | flag::PROCESS;
    released.tid = 4711;
    let mut answer = blank();
    answer.time = time + 20_000;
    answer.cookie = upstream + 1;
    answer.exchange = 1;
    (answer.prev_cookie, answer.prev_exchange) = (upstream, 1);
    (answer.request_time, answer.response_time) = (time - 50_000, time + 20_000);
    answer.kind = kind::RESPONSE;
    answer.role = role::DOWNSTREAM;
    answer.phase = phase::RESPONSE;
    answer.proto = proto::HTTP1;
    answer.status = 502;
    answer.flags = flag::PROCESS;
    answer.tid = 4711;
    request(&mut answer);
    [failed, released, answer].map(|sample| *sample.as_bytes())
}

fn request(sample: &mut Sample) {
    let put = |to: &mut [u8], text: &str| {
        to[..text.len()].copy_from_slice(text.as_bytes());
        text.len() as u8
    };
    sample.method_len = put(&mut sample.method, "GET");
    sample.host_len = put(&mut sample.host, "shop.example");
    sample.path_len = put(&mut sample.path, "/cart/items/4711");
}

fn blank() -> Sample {
    let mut blank = Sample::from_bytes(&[0; SIZE]).expect("a sample's size");
    blank.cgroup = 7;
    blank.tgid = 4711;
    blank.local_port = 43_210;
    blank.remote_port = 8080;
    blank.remote_address = mapped([10, 77, 0, 3]);
    blank.local_address = mapped([10, 77, 0, 2]);
    blank
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}
