//! A cluster that changes a hundred times a second while requests fail: Services are renamed, pods give
//! their addresses to others, ports move away and come back. Real kernel and nginx; the API is the
//! stand-in, which says when each change was told. Names must be those of the moment.
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tests::agent::{Agent, Finding};
use tests::bed::{Bed, Host};
use tests::client;
use tests::edge::{Edge, pause};
use tests::fake_api::FakeApi;
use tests::kubeconfig::User;
use tests::netns;
use tests::nginx::Fault;
use tests::objects::{self, Endpoint};
use tests::wait;

const NODE: &str = "n1";
const SPACE: &str = "storm";
/// Last parts of the pods' addresses, of both families.
const PLACES: std::ops::Range<usize> = 100..200;
const LENGTH: Duration = Duration::from_secs(20);
const CLIENTS: usize = 4;
/// How much later than the controllers an agent may learn of a change.
const LATE: Duration = Duration::from_millis(100);
/// What was true longer ago than this is wrong.
const WRONG: Duration = Duration::from_secs(1);

/// Who has an address, since when, and until when at the latest.
#[derive(Clone, Debug)]
struct Reign {
    service: String,
    pod: String,
    from: Instant,
    until: Option<Instant>,
}

/// An address of the cluster.
struct Place {
    number: usize,
    six: bool,
    port: u16,
    generation: usize,
    past: Vec<Reign>,
}

impl Place {
    fn address(&self) -> String {
        let number = self.number;
        if self.six {
            format!("fd77::{number}")
        } else {
            format!("10.77.0.{number}")
        }
    }

    fn new(number: usize, six: bool) -> Self {
        let family = if six { "v6" } else { "v4" };
        Self {
            number,
            six,
            port: Fault::Refused.port(),
            generation: 0,
            past: vec![Reign {
                service: format!("web-{number}-{family}-0"),
                pod: format!("web-{number}-{family}-pod-0"),
                from: Instant::now(),
                until: None,
            }],
        }
    }

    fn now(&self) -> &Reign {
        self.past.last().expect("never empty")
    }

    fn tell(&self, api: &FakeApi) -> Result<()> {
        let now = self.now();
        let endpoint = Endpoint::ready(self.address().parse()?, &now.pod);
        api.apply(objects::slice(
            SPACE,
            &now.service,
            &[("http", self.port)],
            &[endpoint],
        ))
    }

    fn introduce(&self, api: &FakeApi) -> Result<()> {
        let ports = [("http", 80, json!(self.port))];
        api.apply(objects::service(SPACE, &self.now().service, None, &ports))?;
        self.tell(api)
    }

    /// From now on it is somebody else's; who had it.
    fn pass(&mut self, change: impl FnOnce(&mut Reign)) -> Reign {
        let old = self.now().clone();
        let mut next = old.clone();
        next.from = Instant::now();
        change(&mut next);
        self.past.push(next);
        old
    }

    fn ended(&mut self) {
        let last = self.past.len() - 2;
        self.past[last].until = Some(Instant::now());
    }

    /// One of the things that happen to Services; how many objects changed.
    fn change(&mut self, api: &FakeApi) -> Result<usize> {
        self.generation += 1;
        let number = self.generation;
        match number % 4 {
            0 => {
                let old = self.pass(|next| next.service = renamed(&next.service, number));
                self.introduce(api)?;
                let family = if self.six { "v6" } else { "v4" };
                api.delete(
                    "endpointslices",
                    SPACE,
                    &format!("{}-{family}", old.service),
                )?;
                api.delete("services", SPACE, &old.service)?;
                self.ended();
                Ok(4)
            }
            1 => {
                self.pass(|next| next.pod = renamed(&next.pod, number));
                self.tell(api)?;
                self.ended();
                Ok(1)
            }
            // Its address is the Service's all the same, until its port comes back.
            _ => {
                let own = Fault::Refused.port();
                self.port = if self.port == own { 9 } else { own };
                self.tell(api)?;
                Ok(1)
            }
        }
    }

    /// Whether these names were right at some time of a request, `late` before it included.
    fn knew(&self, asked: &Asked, late: Duration, names: (&str, &str)) -> bool {
        let from = asked.from.checked_sub(late).unwrap_or(asked.from);
        self.past.iter().any(|reign| {
            let lasted = reign.until.is_none_or(|until| until >= from);
            lasted && reign.from <= asked.until && (&*reign.service, &*reign.pod) == names
        })
    }
}

/// A request and when it was under way.
struct Asked {
    path: String,
    place: usize,
    from: Instant,
    until: Instant,
}

/// A name with another number at its end.
fn renamed(name: &str, number: usize) -> String {
    let stem = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
    format!("{stem}-{number}")
}

/// What the names of a request's failure were.
#[derive(Debug, Default)]
struct Tally {
    right: usize,
    late: usize,
    unnamed: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn take(&mut self, asked: &Asked, place: &Place, findings: &[Finding]) {
        let mut told = findings.iter().filter(|one| one.path() == asked.path);
        let Some(finding) = told.next() else {
            self.wrong.push(format!("{}: not told", asked.path));
            return;
        };
        let names = (
            finding.text("/backend/service"),
            finding.text("/backend/pod"),
        );
        if names.0.is_empty() || names.1.is_empty() {
            self.unnamed += 1;
        } else if place.knew(asked, LATE, names) {
            self.right += 1;
        } else if place.knew(asked, WRONG, names) {
            self.late += 1;
        } else {
            self.wrong.push(finding.0.to_string());
        }
    }
}

/// All addresses on the backend's host, and an nginx that goes where the path says.
fn edge(bed: &Bed) -> Result<Edge> {
    let mut addresses = String::new();
    for number in PLACES {
        writeln!(addresses, "addr add 10.77.0.{number}/24 dev eth0")?;
        writeln!(addresses, "addr add fd77::{number}/64 dev eth0 nodad")?;
    }
    netns::ip(Some(&bed.namespace(Host::Backend)), &addresses)?;
    let port = Fault::Refused.port();
    let http = format!(
        "server {{ listen 8090;\n\
         location ~ ^/4/(?<n>\\d+)/ {{ proxy_pass http://10.77.0.$n:{port}; }}\n\
         location ~ ^/6/(?<n>\\d+)/ {{ proxy_pass http://[fd77::$n]:{port}; }}\n}}\n"
    );
    Edge::start(bed, "", &http)
}

fn follow(bed: &Bed, api: &FakeApi) -> Result<Agent> {
    let config = api.kubeconfig(bed.folder(), &User::Nobody)?;
    let (config, cgroup) = (config.display().to_string(), bed.cgroup(Host::Proxy));
    let cgroup = cgroup.display().to_string();
    let target = ["--controller", "nginx", "--cgroup", &cgroup];
    let kube = ["--node", NODE, "--kubeconfig", &config];
    let agent = Agent::start_with(bed.folder(), &[target, kube].concat())?;
    agent.knows_the_cluster()?;
    Ok(agent)
}

/// Asks for one place after the other until it is over.
fn ask(bed: &Bed, edge: &Edge, number: usize, over: &AtomicBool) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for step in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let place = (step * 37 + number * 53) % (2 * PLACES.len());
        let (family, last) = (4 + place % 2 * 2, PLACES.start + place / 2);
        let path = format!("/{family}/{last}/{number}-{step}");
        let from = Instant::now();
        let answer = client::get(bed, edge.at(8090), &path)?;
        assert_eq!(answer.status, Some(502), "{path}");
        let until = Instant::now();
        all.push(Asked {
            path,
            place,
            from,
            until,
        });
        pause(15);
    }
    Ok(all)
}

/// A hundred changes a second, at even times; how many there were.
fn churn(api: &FakeApi, places: &mut [Place]) -> Result<usize> {
    let (start, mut changes) = (Instant::now(), 0);
    for step in 0.. {
        let place = step * 61 % places.len();
        changes += places[place].change(api)?;
        let due = Duration::from_millis(10) * u32::try_from(changes)?;
        if due > LENGTH {
            break;
        }
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(changes)
}

#[test]
fn names_are_right_while_a_hundred_things_change_a_second() -> Result<()> {
    let bed = Bed::new()?;
    let edge = edge(&bed)?;
    let api = FakeApi::start()?;
    api.apply(objects::node(NODE))?;
    let numbers = PLACES.flat_map(|number| [(number, false), (number, true)]);
    let mut places: Vec<Place> = numbers
        .map(|(number, six)| Place::new(number, six))
        .collect();
    places.iter().try_for_each(|place| place.introduce(&api))?;
    let agent = follow(&bed, &api)?;

    let over = AtomicBool::new(false);
    let (changes, asked) = thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (bed, edge, over) = (&bed, &edge, &over);
                scope.spawn(move || ask(bed, edge, number, over))
            })
            .collect();
        let began = Instant::now();
        let changes = churn(&api, &mut places);
        let lasted = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let asked = clients.into_iter().map(wait::joined);
        let asked = asked.collect::<Result<Vec<_>>>()?;
        let asked: Vec<Asked> = asked.into_iter().flatten().collect();
        assert!(lasted < LENGTH * 2, "the machine is too slow: {lasted:?}");
        Ok((changes?, asked))
    })?;
    let last = asked.last().context("no request was made")?;
    agent.finding("the last failure", |one| one.path() == last.path)?;
    let findings = agent.stop()?;

    let mut tally = Tally::default();
    for asked in &asked {
        tally.take(asked, &places[asked.place], &findings);
    }
    let Tally {
        right,
        late,
        unnamed,
        wrong,
    } = &tally;
    let all = asked.len();
    eprintln!("{changes} changes; {right} of {all} right, {late} late, {unnamed} without a name");
    assert!(
        wrong.is_empty(),
        "{} wrong, such as {}",
        wrong.len(),
        wrong[0]
    );
    assert!(all > 500 && right * 100 >= all * 99, "{right} of {all}");
    Ok(())
}
