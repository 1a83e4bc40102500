//! In: fake processes and texts of the kernel's files. Out: proof of every figure, of what is
//! absent, and that no text makes a parser panic.
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::targets::fake::Tree;
use crate::targets::{Selection, find};

const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const NETSTAT: &str = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 0 7 9\nIpExt: InNoRoutes\nIpExt: 1\n";

fn line(local: &str, remote: &str, state: &str, waiting: u32, inode: u64) -> String {
    format!(
        "   0: {local} {remote} {state} 00000000:{waiting:08X} 00:00000000 00000000     0        0 {inode} 1 0 100 0 0 10 0\n"
    )
}

fn machine() -> (Tree, Target) {
    let tree = Tree::new();
    tree.process(10, "nginx", "a");
    tree.process(11, "nginx", "a");
    tree.write(
        "proc/10/cmdline",
        "nginx: master process /usr/sbin/nginx -c /etc/n.conf\0\0\0",
    );
    tree.write("proc/11/cmdline", "nginx: worker process\0\0\0");
    for pid in [10, 11] {
        tree.write(&format!("proc/{pid}/limits"), "Limit  Soft  Hard  Units\nMax open files            8                    16                   files\n");
        tree.link(&format!("proc/{pid}/ns/net"), "net:[55]");
        tree.link(&format!("proc/{pid}/fd/0"), "/dev/null");
        tree.write(&format!("proc/{pid}/net/netstat"), NETSTAT);
    }
    for (fd, inode) in [(3, 900), (4, 901), (5, 902)] {
        tree.link(&format!("proc/11/fd/{fd}"), &format!("socket:[{inode}]"));
    }
    let sockets = line("0100007F:1F90", "00000000:0000", "0A", 5, 900)
        + &line("00000000:0050", "00000000:0000", "0A", 9, 777)
        + &line("0100007F:9C40", "0100007F:1F90", "01", 3, 902);
    tree.write("proc/10/net/tcp", &format!("{HEAD}{sockets}"));
    tree.write(
        "proc/10/root/etc/n.conf",
        "events { # worker_connections 1;\n  worker_connections 4;\n}\n",
    );
    tree.write(
        "cgroup/a/cpu.stat",
        "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 30\n",
    );
    tree.write("cgroup/a/cpu.max", "max 20000\n");
    tree.write(
        "cgroup/a/memory.events",
        "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n",
    );
    let target = find(&Selection::default(), &tree.roots())
        .expect("readable")
        .targets
        .remove(0);
    (tree, target)
}

#[test]
fn what_is_in_use_is_read_against_its_limit() {
    let (tree, target) = machine();
    let limits = read(&target, &tree.roots(), None);
    let usage = |used, limit| {
        Some(ProcessUsage {
            pid: 11,
            usage: Usage { used, limit },
        })
    };
    assert_eq!(limits.descriptors, usage(4, 8));
    assert_eq!(limits.connections, usage(3, 4));
    let local = "127.0.0.1:8080".parse().expect("an address");
    assert_eq!(
        limits.queues,
        Some(vec![Queue {
            local,
            waiting: 5,
            limit: None
        }])
    );
}

#[test]
fn counters_are_told_as_increases_and_only_with_a_baseline() {
    let (tree, target) = machine();
    let none = read(&target, &tree.roots(), None);
    assert!(none.listening.is_none() && none.throttling.is_none() && none.memory.is_none());
    let before = Baseline::take(&target, &tree.roots());
    tree.write("cgroup/a/cpu.stat", "nr_throttled 5\nthrottled_usec 130\n");
    tree.write("cgroup/a/memory.events", "max 6\noom 1\noom_kill 1\n");
    for pid in [10, 11] {
        tree.write(
            &format!("proc/{pid}/net/netstat"),
            &NETSTAT.replace("7 9", "8 12"),
        );
    }
    let limits = read(&target, &tree.roots(), Some(&before));
    assert_eq!(
        limits.listening,
        Some(Listening {
            overflows: 1,
            drops: 3
        })
    );
    let throttling = Throttling {
        periods: 3,
        nanos: 100_000,
        period: Duration::from_millis(20),
    };
    assert_eq!(limits.throttling, Some((target.cgroup.clone(), throttling)));
    assert_eq!(
        limits.memory,
        Some(Memory {
            max: 2,
            oom: 0,
            killed: 0
        })
    );
}

#[test]
fn a_quota_above_the_target_and_on_v1_is_seen() {
    let (tree, target) = machine();
    let mut roots = tree.roots();
    let v1 = tree.cgroup2().with_file_name("cpu");
    roots.cpu = Some(crate::targets::Hierarchy::whole(&v1));
    tree.write("proc/10/cgroup", "4:cpu,cpuacct:/pod/c\n0::/a\n");
    tree.write("cpu/pod/cpu.stat", "nr_throttled 1\nthrottled_time 500\n");
    tree.write("cpu/pod/cpu.cfs_period_us", "50000\n");
    tree.write("cpu/pod/c/cpu.stat", "nr_throttled 0\nthrottled_time 0\n");
    let before = Baseline::take(&target, &roots);
    tree.write("cpu/pod/cpu.stat", "nr_throttled 4\nthrottled_time 900\n");
    let limits = read(&target, &roots, Some(&before));
    assert_eq!(
        limits.throttling,
        Some((
            v1.join("pod"),
            Throttling {
                periods: 3,
                nanos: 400,
                period: Duration::from_millis(50),
            }
        ))
    );
}

#[test]
fn what_is_newer_than_the_baseline_has_no_increase() {
    let (tree, target) = machine();
    let limits = read(&target, &tree.roots(), Some(&Baseline::default()));
    assert!(limits.listening.is_none() && limits.throttling.is_none() && limits.memory.is_none());
}

#[test]
fn a_target_whose_processes_are_gone_has_no_figures() {
    let (tree, mut target) = machine();
    target.pids = vec![404];
    target.cgroup = tree.cgroup2().join("gone");
    assert_eq!(read(&target, &tree.roots(), None), Limits::default());
    assert_eq!(
        ports(
            &target,
            &tree.roots(),
            "127.0.0.1".parse().expect("address"),
            80
        ),
        None
    );
}

#[test]
fn addresses_are_read_in_the_kernels_order_and_v4_mapped_as_v4() {
    let parse =
        |local: &str| sockets::parse(&line(local, "00000000:0000", "01", 0, 1)).map(|s| s.local);
    let address = |text: &str| Some(text.parse::<SocketAddr>().expect("an address"));
    assert_eq!(parse("0100007F:1F90"), address("127.0.0.1:8080"));
    assert_eq!(
        parse("00000000000000000000000001000000:0050"),
        address("[::1]:80")
    );
    assert_eq!(
        parse("0000000000000000FFFF00000103020A:0050"),
        address("10.2.3.1:80")
    );
    assert_eq!(parse("0100:0050"), None);
    assert_eq!(sockets::parse(HEAD), None);
}

#[test]
fn ports_towards_a_backend_count_once_and_listeners_never() {
    let text = line("0100007F:9C40", "0103020A:0050", "01", 0, 1)
        + &line("0200007F:9C40", "0103020A:0050", "06", 0, 0)
        + &line(
            "0100007F:9C41",
            "0000000000000000FFFF00000103020A:0050",
            "06",
            0,
            0,
        )
        + &line("0100007F:9C42", "0103020A:0051", "01", 0, 2)
        + &line("0100007F:9C43", "0103020A:0050", "0A", 0, 3);
    let all: Vec<_> = text.lines().filter_map(sockets::parse).collect();
    let found = sockets::local_ports(&all, "::ffff:10.2.3.1".parse().expect("address"), 80);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [40_000, 40_001]);
}

#[test]
fn reserved_ports_are_not_in_the_range() {
    let range = ports::Range::parse("32768\t60999\n", "32768,40000-40009,80\n").expect("a range");
    assert_eq!(range.size(), 28_232 - 11);
    assert!(range.contains(32_769) && !range.contains(32_768) && !range.contains(40_005));
    assert_eq!(ports::Range::parse("9 1", ""), None);
}

#[test]
fn the_configuration_of_nginx_is_found_and_read() {
    let path = |title: &str| nginx::config_path(title).map(|path| path.display().to_string());
    assert_eq!(
        path("nginx: master process nginx -c /a/n.conf").as_deref(),
        Some("/a/n.conf")
    );
    assert_eq!(
        path("nginx -p /apisix -c conf/n.conf -g x").as_deref(),
        Some("/apisix/conf/n.conf")
    );
    assert_eq!(path("nginx -g daemon off;"), None);
    let value = nginx::worker_connections;
    assert_eq!(
        value("events { multi_accept on; worker_connections  16384; }"),
        Some(16_384)
    );
    assert_eq!(value("# worker_connections 9;\nevents {}"), None);
}

#[test]
fn the_soft_limit_is_the_first_number() {
    let limit = |text: &str| descriptors::soft_limit(&format!("Max open files {text} files\n"));
    assert_eq!(limit("1024 524288"), Some(1024));
    assert_eq!(limit("unlimited unlimited"), Some(u64::MAX));
    assert_eq!(limit("odd odd"), None);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "[ -~\n]{0,300}", odd: String) {
        for text in [&text, &odd] {
            let _ = (sockets::parse(text), counters::parse_netstat(text), cgroup::parse_cpu(text));
            let _ = (cgroup::parse_memory(text), descriptors::soft_limit(text));
            let _ = cgroup::parse_pressure(text);
            let _ = (nginx::config_path(text), nginx::worker_connections(text));
            let _ = ports::Range::parse(text, text).map(|range| range.size());
        }
    }

    #[test]
    fn no_hex_makes_an_address_panic(hex in "[0-9A-Fa-fé]{0,34}:[0-9A-F]{0,5}") {
        let _ = sockets::parse(&line(&hex, &hex, "01", 0, 1));
    }

    #[test]
    fn every_written_v4_socket_is_read_back(address: [u8; 4], port: u16) {
        let text = format!("{:08X}:{port:04X}", u32::from_ne_bytes(address));
        let socket = sockets::parse(&line(&text, &text, "01", 0, 1)).expect("a valid line");
        prop_assert_eq!(socket.remote, SocketAddr::from((address, port)));
    }
}
