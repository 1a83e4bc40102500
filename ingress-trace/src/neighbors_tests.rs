//! In: pods of a fake node that fail. Out: proof that they are looked at twice, which counters are
//! compared, and that no storm reads more than its share.
use super::*;
use crate::targets::fake::{LAYOUTS, Tree};

const S: u64 = 1_000_000_000;

fn neighbor(number: u32) -> Neighbor {
    Neighbor {
        pod: Name::new("shop", &format!("cart-{number}")),
        uid: format!("0f6a1f60-93f7-4a0c-8d2c-{number:012}").into(),
        host_network: false,
    }
}

/// A node on which each of these pods has a process with a listener on port 8080.
fn node(pods: u32) -> Tree {
    let tree = Tree::new();
    for number in 0..pods {
        let pid = 100 + number;
        let folder = LAYOUTS[0].container(&neighbor(number).uid, "main");
        tree.process(pid, "app", &folder);
        tree.link(&format!("proc/{pid}/ns/net"), &format!("net:[{pid}]"));
        tree.write(&format!("proc/{pid}/net/tcp"), "  0: 00000000:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 77 1 0 100 0 0 10 0\n");
        overflowed(&tree, number, 10);
    }
    tree
}

fn overflowed(tree: &Tree, number: u32, times: u32) {
    let text = format!("TcpExt: ListenOverflows ListenDrops\nTcpExt: {times} {times}\n");
    tree.write(&format!("proc/{}/net/netstat", 100 + number), &text);
}

/// Takes what the thread tells until `done`, which it is within a second.
fn until(neighbors: &mut Neighbors, now: u64, done: impl Fn(&Neighbors) -> bool) {
    for _ in 0..1000 {
        neighbors.turn(now);
        if done(neighbors) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the thread told nothing");
}

fn looks(neighbors: &Neighbors, number: u32) -> usize {
    let known = neighbors.pods.get(&neighbor(number).pod);
    known.map_or(0, |known| known.looks.len())
}

#[test]
fn a_pod_that_fails_is_looked_at_at_once_and_again_and_the_increase_between_counts() {
    let tree = node(1);
    let mut neighbors = Neighbors::start(tree.roots()).expect("a thread");
    let (one, start) = (neighbor(0), monotonic());
    neighbors.fails(&one, start);
    until(&mut neighbors, start, |all| looks(all, 0) == 1);
    let first = neighbors.inside(&one, 8080, start, start).expect("a look");
    assert_eq!(first.listening, Some([8080].into()));
    assert_eq!(first.queue.map(|queue| queue.waiting), Some(3));
    assert_eq!((first.overflows, first.span), (None, Duration::ZERO));
    overflowed(&tree, 0, 14);
    until(&mut neighbors, start + S, |all| looks(all, 0) == 2);
    let second = neighbors.inside(&one, 8080, start, start).expect("looks");
    assert_eq!(second.overflows, Some(4));
    assert!(second.span > Duration::ZERO);
    // No third one while nothing fails.
    neighbors.turn(start + 9 * S);
    assert!(neighbors.pods[&one.pod].again.is_none());
    assert_eq!(neighbors.skipped, 0);
}

#[test]
fn the_counters_from_before_the_failure_are_what_is_compared_with() {
    let tree = node(1);
    let mut neighbors = Neighbors::start(tree.roots()).expect("a thread");
    let one = neighbor(0);
    neighbors.rests(&one, monotonic());
    let rested = |all: &Neighbors| all.pods[&neighbor(0).pod].before.len() == 1;
    until(&mut neighbors, 0, rested);
    overflowed(&tree, 0, 11);
    let failed = monotonic();
    neighbors.fails(&one, failed);
    until(&mut neighbors, failed, |all| looks(all, 0) == 1);
    let inside = neighbors
        .inside(&one, 8080, failed, failed)
        .expect("a look");
    assert_eq!(inside.overflows, Some(1));
    // A long time later these looks say nothing any more.
    let late = failed + 60 * S;
    assert_eq!(neighbors.inside(&one, 8080, late, late), None);
}

#[test]
fn the_next_pod_of_the_same_name_knows_nothing_of_the_one_before() {
    let tree = node(1);
    let mut neighbors = Neighbors::start(tree.roots()).expect("a thread");
    let (one, start) = (neighbor(0), monotonic());
    neighbors.fails(&one, start);
    until(&mut neighbors, start, |all| looks(all, 0) == 1);
    let next = Neighbor {
        uid: neighbor(7).uid,
        ..one.clone()
    };
    assert_eq!(neighbors.inside(&next, 8080, start, start), None);
    neighbors.fails(&next, start);
    assert_eq!(neighbors.inside(&one, 8080, start, start), None);
}

#[test]
fn a_storm_reads_its_share_and_what_is_skipped_is_counted() {
    let tree = node(40);
    let mut neighbors = Neighbors::start(tree.roots()).expect("a thread");
    let start = monotonic();
    for _ in 0..100 {
        for number in 0..40 {
            let backend = SocketAddr::from(([10, 0, 0, number], 80));
            if neighbors.glance(backend, start) {
                neighbors.fails(&neighbor(u32::from(number)), start);
            }
        }
    }
    assert_eq!(neighbors.skipped, 30);
    until(&mut neighbors, start, |all| {
        (0..40).map(|number| looks(all, number)).sum::<usize>() == LOOKS as usize
    });
}

#[test]
fn pods_are_bounded() {
    let mut neighbors = Neighbors::start(Tree::new().roots()).expect("a thread");
    for number in 0..MOST as u32 + 50 {
        neighbors.rests(&neighbor(number), u64::from(number));
    }
    assert_eq!(neighbors.pods.len(), MOST);
    assert!(!neighbors.pods.contains_key(&neighbor(0).pod));
}
