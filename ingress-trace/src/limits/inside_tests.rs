//! In: fake pods and looks at them. Out: proof of what is said of a failure, on cgroup v2 and v1.
use std::net::SocketAddr;

use super::*;
use crate::limits::Throttling;
use crate::limits::Usage;
use crate::targets::fake::{LAYOUTS, Tree};
use crate::targets::{Hierarchy, Residents};

const UID: &str = "0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a";

const PRESSURE: &str = "some avg10=0.00 avg60=0.50 avg300=0.00 total=4000\n\
    full avg10=0.00 avg60=0.00 avg300=0.00 total=700\n";

fn folder() -> String {
    LAYOUTS[0].container(UID, "main")
}

/// A pod whose process 11 listens on 8080 and 9090.
fn pod() -> (Tree, Target) {
    let tree = Tree::new();
    tree.process(11, "app", &folder());
    tree.link("proc/11/ns/net", "net:[5]");
    tree.link("proc/11/fd/3", "socket:[900]");
    let line = |port: &str, inode: u32| {
        format!(
            "  0: 00000000:{port} 00000000:0000 0A 00000000:00000002 00:00000000 00000000 0 0 {inode} 1 0\n"
        )
    };
    tree.write("proc/11/net/tcp", &(line("1F90", 900) + &line("2382", 901)));
    let pod = Name::new("shop", "cart-0");
    let target = Residents::default().find(&pod, UID, &tree.roots());
    (tree, target.expect("it is there"))
}

fn queue(port: u16, waiting: u32) -> Queue {
    Queue {
        local: SocketAddr::from(([0, 0, 0, 0], port)),
        waiting,
        limit: Some(1),
    }
}

fn at(port: u16) -> Place {
    Place {
        pod: Name::new("shop", "cart-0"),
        port,
        host_network: false,
    }
}

fn with(queues: &[Queue], used: u64) -> Look {
    Look {
        listeners: Some(queues.to_vec()),
        descriptors: Some(ProcessUsage {
            pid: 1,
            usage: Usage { used, limit: 10 },
        }),
        ..Look::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what is asked for")]
fn since(counters: &Baseline, covers: bool) -> Option<Before<'_>> {
    Some(Before {
        counters,
        span: Duration::from_secs(1),
        covers,
    })
}

#[test]
fn that_nothing_was_counted_is_told_only_where_the_failure_lies_between() {
    let (tree, target) = pod();
    let events = "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n";
    let folder = target.cgroup.strip_prefix(tree.cgroup2()).expect("below");
    tree.write(
        &format!("cgroup/{}/memory.events", folder.display()),
        events,
    );
    tree.write(
        &format!("cgroup/{}/cpu.stat", folder.display()),
        "nr_throttled 1\nthrottled_usec 2\n",
    );
    for file in ["cpu.pressure", "memory.pressure"] {
        let path = format!("cgroup/{}/{file}", folder.display());
        tree.write(&path, PRESSURE);
    }
    tree.write(
        "proc/11/net/netstat",
        "TcpExt: ListenOverflows ListenDrops\nTcpExt: 4 4\n",
    );
    let look = Look::take(&target, &tree.roots(), false);
    let said = |covers| inside(&at(8080), &[&look], since(&look.counters, covers)).expect("a look");
    let all = |said: Inside| (said.overflows, said.throttling, said.memory, said.pressure);
    assert_eq!(all(said(false)), (None, None, None, None));
    let nothing = (
        Some(0),
        Some(Throttling::default()),
        Some(Memory::default()),
        Some(Pressure::default()),
    );
    assert_eq!(all(said(true)), nothing);
    let path = format!("cgroup/{}/cpu.pressure", folder.display());
    tree.write(&path, &PRESSURE.replace("total=700", "total=900"));
    let later = Look::take(&target, &tree.roots(), false);
    let said = inside(&at(8080), &[&later], since(&look.counters, false)).expect("a look");
    let waited = Pressure {
        cpu: 200_000,
        memory: 0,
    };
    assert_eq!(said.pressure, Some(waited));
}

#[test]
fn ports_are_those_of_the_first_look_and_queues_and_descriptors_the_fullest() {
    let looks = [
        with(&[queue(80, 2)], 10),
        with(&[queue(80, 0), queue(81, 9)], 3),
    ];
    let said = inside(&at(80), &[&looks[0], &looks[1]], None).expect("looks");
    assert_eq!(said.listening, Some([80].into()));
    let full = said.queue.expect("it has one");
    assert!(full.is_full() && full.waiting == 2);
    assert_eq!(said.descriptors.map(|one| one.usage.used), Some(10));
    let other = inside(&at(82), &[&looks[0]], None).expect("a look");
    assert_eq!(other.queue, None);
    let lonely = ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"].map(|local| Queue {
        local: local.parse().expect("an address"),
        ..queue(80, 0)
    });
    let lonely = with(&lonely, 3);
    let said = inside(&at(80), &[&lonely], None).expect("a look");
    assert_eq!(
        said.listening,
        Some([].into()),
        "nobody else connects there"
    );
    assert_eq!(inside(&at(80), &[], None), None);
}

#[test]
fn what_could_not_be_read_is_absent_and_not_empty() {
    let look = Look::default();
    let said = inside(&at(80), &[&look], None).expect("a look");
    assert_eq!(
        (said.listening, said.queue, said.descriptors),
        (None, None, None)
    );
}

#[test]
fn overflows_of_the_nodes_own_network_are_not_a_pods() {
    let netstat = |overflows: u32| {
        format!("TcpExt: ListenOverflows ListenDrops\nTcpExt: {overflows} {overflows}\n")
    };
    let (tree, target) = pod();
    tree.write("proc/11/net/netstat", &netstat(3));
    let before = Baseline::take(&target, &tree.roots());
    tree.write("proc/11/net/netstat", &netstat(5));
    let look = Look::take(&target, &tree.roots(), false);
    let said = |host_network| {
        let place = Place {
            host_network,
            ..at(8080)
        };
        inside(&place, &[&look], since(&before, false)).expect("a look")
    };
    assert_eq!(said(false).overflows, Some(2));
    assert_eq!(said(true).overflows, None);
}

#[test]
fn in_the_nodes_own_network_only_what_the_pod_itself_listens_on_is_its_own() {
    let (tree, target) = pod();
    let said = |host_network| {
        let look = Look::take(&target, &tree.roots(), host_network);
        let said = inside(&at(9090), &[&look], None).expect("a look");
        (said.listening, said.queue.is_some())
    };
    assert_eq!(said(false), (Some([8080, 9090].into()), true));
    assert_eq!(said(true), (None, false), "whose they are cannot be read");
    let limits = "Max open files 10 10 files\n";
    tree.write("proc/11/limits", limits);
    assert_eq!(said(true), (Some([8080].into()), false));
}

#[test]
fn a_port_is_frozen_whose_process_is_by_either_version() {
    let (tree, target) = pod();
    let mut roots = tree.roots();
    let ports = |roots: &Roots| Look::take(&target, roots, false).frozen;
    assert_eq!(ports(&roots), BTreeSet::new());
    let events = format!("cgroup/{}/cgroup.events", folder());
    tree.write(&events, "populated 1\nfrozen 1\n");
    assert_eq!(ports(&roots), [8080].into());
    tree.write(&events, "populated 1\nfrozen 0\n");
    let old = tree.cgroup2().with_file_name("freezer");
    roots.freezer = Some(Hierarchy::whole(&old));
    tree.write(
        "proc/11/cgroup",
        &format!("5:freezer:/x\n0::/{}\n", folder()),
    );
    tree.write("freezer/x/freezer.state", "FROZEN\n");
    assert_eq!(ports(&roots), [8080].into());
    tree.write("freezer/x/freezer.state", "THAWED\n");
    assert_eq!(ports(&roots), BTreeSet::new());
}

#[test]
fn a_kill_by_a_memory_limit_of_v1_is_seen_though_the_process_is_gone() {
    let (tree, mut target) = pod();
    let mut roots = tree.roots();
    roots.memory = Some(Hierarchy::whole(tree.cgroup2().with_file_name("memory")));
    let write = |hits: u32, killed: u32| {
        let folder = format!("memory/{}", folder());
        tree.write(&format!("{folder}/memory.failcnt"), &format!("{hits}\n"));
        let control = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {killed}\n");
        tree.write(&format!("{folder}/memory.oom_control"), &control);
    };
    write(5, 0);
    let before = Baseline::take(&target, &roots);
    write(9, 1);
    tree.end(11, &folder());
    target.pids.clear();
    let look = Look::take(&target, &roots, false);
    let said = inside(&at(8080), &[&look], since(&before, true)).expect("a look");
    let expected = Memory {
        max: 4,
        oom: 1,
        killed: 1,
    };
    assert_eq!(said.memory, Some(expected));
    assert_eq!(said.listening, None);
}
