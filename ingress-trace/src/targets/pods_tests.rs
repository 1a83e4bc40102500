//! In: fake nodes and pods as the API tells them. Out: proof of which are watched, by which cgroup,
//! and how long. Must not look at the real machine.
use super::super::fake::{LAYOUTS, Layout, Tree};
use super::super::{Finder, find};
use super::*;
use crate::cluster::object::Container;
use crate::profiles::serves::Ingresses;

const NODE: &str = "node-1";
const UID: &str = "0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a";
const OTHER: &str = "11111111-93f7-4a0c-8d2c-3d6c1f2e4b5a";
const IMAGE: &str = "registry.k8s.io/ingress-nginx/controller:v1.13.0@sha256:0";
const LAYOUT: Layout = LAYOUTS[1];

fn pod(name: &str, uid: &str, image: &str) -> Pod {
    Pod {
        name: Name::new("edge", name),
        uid: uid.into(),
        node: Some(NODE.into()),
        phase: "Running".into(),
        containers: vec![Container {
            name: "controller".into(),
            image: image.into(),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn ingress() -> Pod {
    pod("ingress-nginx-1", UID, IMAGE)
}

fn labeled(labels: &[(&str, &str)]) -> Pod {
    let shared = |(key, value): &(&str, &str)| ((*key).into(), (*value).into());
    Pod {
        labels: labels.iter().map(shared).collect(),
        ..pod("gateway-1", OTHER, "registry.example/own-gateway:1")
    }
}

fn finder(tree: &Tree, selection: &Selection) -> Finder {
    let mut finder = Finder::new(selection, tree.roots()).expect("a right selection");
    finder.await_pods(NODE);
    finder
}

fn targets(finder: &mut Finder) -> Vec<Target> {
    finder.find().expect("the tree is readable").targets
}

fn names(finder: &mut Finder) -> Vec<String> {
    let pods = targets(finder).into_iter().filter_map(|target| target.pod);
    pods.map(|pod| pod.to_string()).collect()
}

#[test]
fn an_ingress_pod_is_watched_as_a_whole_in_every_layout() {
    for layout in LAYOUTS {
        let tree = Tree::new();
        tree.process(10, "pause", &layout.container(UID, "pause"));
        tree.process(11, "nginx-ingress-c", &layout.container(UID, "4f2a"));
        tree.process(12, "nginx", &layout.container(UID, "4f2a"));
        tree.process(20, "nginx", &layout.container(OTHER, "5e3b"));
        let mut finder = finder(&tree, &Selection::default());
        assert!(finder.replace_pods([&ingress(), &pod("shop-1", OTHER, "nginx:1.29")]));
        let found = targets(&mut finder);
        let [target] = found.as_slice() else {
            panic!("{layout:?}: {found:#?}");
        };
        assert_eq!(target.cgroup, tree.cgroup2().join(layout.pod(UID)));
        assert_eq!(target.controller, Controller::Nginx);
        assert_eq!(
            (&target.pids, &target.names),
            (&vec![12], &vec!["nginx".to_owned()])
        );
        assert_eq!(target.pod, Some(Name::new("edge", "ingress-nginx-1")));
    }
}

#[test]
fn a_pod_is_found_as_soon_as_its_cgroup_comes_and_before_a_process_runs_there() {
    let tree = Tree::new();
    tree.cgroup(&LAYOUT.container(OTHER, "c"), &[]);
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress()]);
    assert!(targets(&mut finder).is_empty());
    assert!(!finder.arrived());
    let folder = tree.cgroup(&LAYOUT.pod(UID), &[]);
    assert!(finder.arrived());
    let found = targets(&mut finder);
    assert_eq!((&found[0].cgroup, found[0].pids.len()), (&folder, 0));
    assert_eq!(found[0].controller, Controller::Nginx);
    assert!(!finder.arrived());
}

#[test]
fn a_container_that_restarts_changes_no_target() {
    let tree = Tree::new();
    let (old, new) = (LAYOUT.container(UID, "old"), LAYOUT.container(UID, "new"));
    tree.process(12, "nginx", &old);
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress()]);
    let before = targets(&mut finder);
    tree.end(12, &old);
    std::fs::remove_dir_all(tree.cgroup2().join(&old)).expect("it exists");
    let between = targets(&mut finder);
    tree.process(13, "nginx", &new);
    let after = targets(&mut finder);
    assert_eq!(before[0].id, between[0].id);
    assert_eq!(before[0].id, after[0].id);
    assert_eq!((between[0].pids.len(), &after[0].pids), (0, &vec![13]));
}

#[test]
fn a_pod_that_ends_or_goes_is_let_go_of() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    let mut finder = finder(&tree, &Selection::default());
    assert!(finder.replace_pods([&ingress()]));
    assert!(!finder.apply_pod(&ingress()), "nothing changed");
    for phase in ["Succeeded", "Failed"] {
        let ended = Pod {
            phase: phase.into(),
            ..ingress()
        };
        assert!(finder.apply_pod(&ended));
        assert!(
            targets(&mut finder).is_empty() && !finder.has_ingress(),
            "{phase}"
        );
        assert!(finder.apply_pod(&ingress()));
        assert_eq!(targets(&mut finder).len(), 1);
    }
    assert!(finder.delete_pod(&ingress().name));
    assert!(targets(&mut finder).is_empty() && !finder.has_ingress());
    finder.apply_pod(&ingress());
    assert!(finder.has_ingress());
    assert!(finder.replace_pods([]), "a relist without it");
    assert!(targets(&mut finder).is_empty());
}

#[test]
fn the_next_pod_of_the_same_name_takes_its_place() {
    let tree = Tree::new();
    tree.cgroup(&LAYOUT.container(UID, "c"), &[]);
    let next = tree.cgroup(&LAYOUT.pod(OTHER), &[]);
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress()]);
    let again = Pod {
        uid: OTHER.into(),
        ..ingress()
    };
    assert!(finder.apply_pod(&again));
    let found = targets(&mut finder);
    assert_eq!((found.len(), &found[0].cgroup), (1, &next));
}

#[test]
fn a_static_pod_is_found_by_the_hash_of_its_manifest() {
    let hash = "a5363f4f31e043bdae3c93aca4991903";
    let tree = Tree::new();
    let folder = tree.cgroup(&LAYOUT.pod(hash), &[]);
    let mut finder = finder(&tree, &Selection::default());
    let mirror = Pod {
        hash: Some(hash.into()),
        ..ingress()
    };
    finder.replace_pods([&mirror]);
    assert_eq!(targets(&mut finder)[0].cgroup, folder);
}

#[test]
fn pods_in_the_hosts_network_have_their_own_cgroup_all_the_same() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    tree.process(13, "nginx", "system.slice/nginx.service");
    let mut finder = finder(&tree, &Selection::default());
    let host = Pod {
        host_network: true,
        ..ingress()
    };
    finder.replace_pods([&host]);
    let found = targets(&mut finder);
    assert_eq!((found.len(), &found[0].pids), (1, &vec![12]));
}

#[test]
fn where_kubelets_make_no_folder_for_a_pod_its_containers_are_found_by_their_ids() {
    let tree = Tree::new();
    let [main, next, log] = ["1a", "2b", "3c"].map(|word| word.repeat(32));
    let folder = |id: &str| format!("k8s.io/{id}");
    let container = |id: &str| Container {
        id: Some(format!("containerd://{id}").into()),
        image: IMAGE.into(),
        ..Container::default()
    };
    let ingress = |ids: [&str; 2]| Pod {
        containers: ids.map(container).to_vec(),
        ..ingress()
    };
    tree.process(12, "nginx", &folder(&main));
    tree.process(13, "fluent-bit", &folder(&log));
    tree.process(14, "nginx", &folder(&"4d".repeat(32)));
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress([&main, &log])]);
    let found = targets(&mut finder);
    let [target] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(target.cgroup, tree.cgroup2().join(folder(&main)));
    assert_eq!(target.pod, Some(Name::new("edge", "ingress-nginx-1")));
    // It restarts: the API tells of the next container, whose folder may come later.
    tree.end(12, &folder(&main));
    std::fs::remove_dir_all(&target.cgroup).expect("it exists");
    assert!(finder.apply_pod(&ingress([&next, &log])));
    targets(&mut finder);
    tree.process(15, "nginx", &folder(&next));
    let found = targets(&mut finder);
    assert_eq!((found.len(), &found[0].pids), (1, &vec![15]));
}

#[test]
fn pods_of_other_nodes_are_nothing_to_us() {
    let tree = Tree::new();
    tree.cgroup(&LAYOUT.pod(UID), &[]);
    let mut finder = finder(&tree, &Selection::default());
    let elsewhere = Pod {
        node: Some("node-2".into()),
        ..ingress()
    };
    finder.replace_pods([&elsewhere]);
    assert!(!finder.apply_pod(&elsewhere) && !finder.has_ingress());
    assert!(targets(&mut finder).is_empty());
}

#[test]
fn what_the_user_says_decides_which_pods_are_watched() {
    let edge = labeled(&[("tier", "edge")]);
    let all = [
        ingress(),
        edge,
        pod(
            "shop-1",
            "22222222-93f7-4a0c-8d2c-3d6c1f2e4b5a",
            "nginx:1.29",
        ),
    ];
    let one = Some("edge/ingress-nginx-1");
    let two = Some("edge/gateway-1");
    let selection = |pods: &[&str], selectors: &[&str], controller| Selection {
        pods: pods
            .iter()
            .map(|pod| pod.parse().expect("a name"))
            .collect(),
        selectors: selectors
            .iter()
            .map(|text| text.parse().expect("right"))
            .collect(),
        controller,
        ..Selection::default()
    };
    let haproxy = Some(Controller::Haproxy);
    let nginx = Some(Controller::Nginx);
    for (selection, expected) in [
        (selection(&[], &[], None), [one, None]),
        (selection(&[], &["tier=edge"], None), [two, one]),
        (selection(&[], &["tier=core"], None), [one, None]),
        (selection(&[], &["tier=edge"], haproxy), [two, None]),
        (selection(&[], &[], nginx), [one, None]),
        (selection(&[], &[], haproxy), [None, None]),
        (selection(&["gateway-1"], &[], None), [two, None]),
        (selection(&["edge/gateway-1"], &[], None), [two, None]),
        (selection(&["shop/gateway-1"], &[], None), [None, None]),
        (
            selection(&["edge/shop-1"], &["tier=edge"], None),
            [Some("edge/shop-1"), None],
        ),
    ] {
        let tree = Tree::new();
        for pod in &all {
            tree.cgroup(&LAYOUT.pod(&pod.uid), &[]);
        }
        let mut finder = finder(&tree, &selection);
        finder.replace_pods(&all);
        let mut found = names(&mut finder);
        found.sort();
        let expected: Vec<_> = expected.into_iter().flatten().collect();
        assert_eq!(found, expected, "{selection:?}");
    }
}

#[test]
fn named_processes_are_told_by_their_pod_and_bring_no_other_pods() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    tree.process(20, "nginx", &LAYOUT.container(OTHER, "c"));
    let selection = Selection {
        pids: vec![20],
        ..Selection::default()
    };
    let mut finder = finder(&tree, &selection);
    assert_eq!(
        targets(&mut finder).len(),
        1,
        "named: no need to wait for the API"
    );
    finder.replace_pods([&ingress(), &pod("shop-1", OTHER, "nginx:1.29")]);
    assert_eq!(names(&mut finder), ["edge/shop-1"]);
    assert!(finder.has_ingress());
}

#[test]
fn a_pod_that_is_named_twice_is_one_target() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    let selection = Selection {
        pids: vec![12],
        pods: vec!["ingress-nginx-1".parse().expect("a name")],
        ..Selection::default()
    };
    let mut finder = finder(&tree, &selection);
    finder.replace_pods([&ingress()]);
    let found = targets(&mut finder);
    let folder = tree.cgroup2().join(LAYOUT.pod(UID));
    assert_eq!((found.len(), &found[0].cgroup), (1, &folder));
}

#[test]
fn processes_stand_in_for_pods_until_the_api_answers() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    tree.process(20, "nginx", &LAYOUT.container(OTHER, "c"));
    let mut finder = finder(&tree, &Selection::default());
    assert!(targets(&mut finder).is_empty(), "the API is awaited");
    finder.fall_back();
    let by_processes = targets(&mut finder);
    assert_eq!(by_processes.len(), 2);
    assert!(finder.replace_pods([&ingress(), &pod("shop-1", OTHER, "nginx:1.29")]));
    let by_pods = targets(&mut finder);
    assert_eq!(by_pods.len(), 1, "an application's nginx is no ingress");
    assert!(
        by_processes.iter().any(|one| one.id == by_pods[0].id),
        "nothing is attached anew"
    );
    finder.fall_back();
    assert_eq!(
        targets(&mut finder),
        by_pods,
        "what the API has told stands"
    );
}

#[test]
fn processes_say_what_a_pod_is_but_sidecars_do_not() {
    let given = Kind::Given(Controller::Haproxy);
    let guessed = Kind::Guessed(Some(Controller::Nginx));
    let open = Kind::Guessed(None);
    let (nginx, envoy, caddy) = (Controller::Nginx, Controller::Envoy, Controller::Caddy);
    for (kind, running, expected) in [
        (given, &[nginx][..], Controller::Haproxy),
        (guessed, &[], nginx),
        (guessed, &[nginx, envoy], nginx),
        (guessed, &[envoy], nginx),
        (guessed, &[caddy], caddy),
        (open, &[], Controller::Unknown),
        (open, &[envoy], envoy),
        (open, &[envoy, caddy], caddy),
    ] {
        assert_eq!(kind.settle(running), expected, "{kind:?} {running:?}");
    }
}

#[test]
fn what_a_meshs_sidecar_does_is_not_the_controllers() {
    let tree = Tree::new();
    tree.process(10, "pilot-agent", &LAYOUT.container(UID, "mesh"));
    tree.process(11, "envoy", &LAYOUT.container(UID, "mesh"));
    tree.process(12, "nginx", &LAYOUT.container(UID, "main"));
    let mesh = tree.cgroup2().join(LAYOUT.container(UID, "mesh"));
    let mesh = id(&mesh).expect("it exists");
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress()]);
    let found = targets(&mut finder);
    assert_eq!(
        (&found[0].foreign, &found[0].pids),
        (&vec![mesh], &vec![12])
    );
    tree.end(12, &LAYOUT.container(UID, "main"));
    let found = targets(&mut finder);
    assert_eq!((&found[0].foreign, found[0].pids.len()), (&vec![mesh], 0));
    assert_eq!(found[0].controller, Controller::Nginx);
}

#[test]
fn what_is_missing_is_told() {
    let tree = Tree::new();
    let selection = Selection {
        pods: vec!["edge/ingress-nginx-1".parse().expect("a name")],
        ..Selection::default()
    };
    let mut finder = finder(&tree, &selection);
    let told = |finder: &mut Finder| {
        let found = finder.find().expect("the tree is readable");
        found.skipped.into_iter().map(|one| one.reason).next()
    };
    finder.replace_pods([]);
    let named = "edge/ingress-nginx-1".parse().expect("a name");
    assert_eq!(told(&mut finder), Some(Reason::NoPod(named)));
    finder.apply_pod(&ingress());
    assert_eq!(
        told(&mut finder),
        None,
        "a pod that starts has no cgroup yet"
    );
    let found: Vec<_> = (0..PATIENCE).filter_map(|_| told(&mut finder)).collect();
    assert_eq!(found, [Reason::NoCgroup(ingress().name)]);
}

#[test]
fn a_kubelet_that_starts_later_is_found() {
    let tree = Tree::new();
    let mut finder = finder(&tree, &Selection::default());
    finder.replace_pods([&ingress()]);
    for _ in 0..20 {
        assert!(targets(&mut finder).is_empty());
    }
    tree.cgroup(&LAYOUT.pod(UID), &[]);
    assert!((0..20).any(|_| !targets(&mut finder).is_empty()));
}

#[test]
fn a_pod_is_named_with_or_without_its_namespace() {
    for (text, shown) in [("x", "x"), ("a/x", "a/x")] {
        assert_eq!(text.parse::<PodName>().expect(text).to_string(), shown);
    }
    for text in ["", "/", "a/", "/x", "a/b/c"] {
        text.parse::<PodName>().expect_err(text);
    }
}

#[test]
fn without_an_api_a_pod_with_one_kind_of_data_plane_is_watched_as_a_whole() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    tree.process(20, "nginx", &LAYOUT.container(OTHER, "main"));
    tree.process(21, "envoy", &LAYOUT.container(OTHER, "mesh"));
    let found = find(&Selection::default(), &tree.roots()).expect("the tree is readable");
    let folder = |name: String| tree.cgroup2().join(name);
    let mut expected = vec![
        (folder(LAYOUT.pod(UID)), Controller::Nginx),
        (folder(LAYOUT.container(OTHER, "main")), Controller::Nginx),
        (folder(LAYOUT.container(OTHER, "mesh")), Controller::Envoy),
    ];
    expected.sort();
    let found = found.targets.into_iter();
    let found: Vec<_> = found.map(|one| (one.cgroup, one.controller)).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_a_pod_serves_comes_with_its_target_and_follows_its_labels() {
    let tree = Tree::new();
    tree.process(12, "nginx", &LAYOUT.container(UID, "c"));
    let mut finder = finder(&tree, &Selection::default());
    let mut pod = ingress();
    pod.containers[0].command = vec!["--controller-class=k8s.io/internal".into()];
    finder.replace_pods([&pod]);
    let serves = targets(&mut finder)[0].serves.clone().expect("its flags");
    let Ingresses::Told(told) = &serves.ingresses else {
        panic!("{serves:?}");
    };
    assert_eq!(told.controller.as_deref(), Some("k8s.io/internal"));
    // Another data plane than the user says is not known to serve anything.
    let given = Selection {
        controller: Some(Controller::Haproxy),
        selectors: vec!["app=edge".parse().expect("a selector")],
        ..Selection::default()
    };
    pod.labels = vec![("app".into(), "edge".into())];
    let mut finder = super::tests::finder(&tree, &given);
    finder.replace_pods([&pod]);
    assert_eq!(targets(&mut finder)[0].serves, None);
}
