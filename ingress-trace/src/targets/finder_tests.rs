//! In: fake machines. Out: proof of what is found, followed, skipped and refused.
//! Must not look at the real machine.
use std::path::{Path, PathBuf};

use super::super::fake::Tree;
use super::super::{Reason, Target};
use super::*;
use crate::cluster::object::Container;

const POD: &str = "kubepods/burstable/pod0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a";

fn nothing_named() -> Selection {
    Selection::default()
}

fn pid(pid: u32) -> Selection {
    Selection {
        pids: vec![pid],
        ..Selection::default()
    }
}

fn cgroup(path: impl Into<PathBuf>) -> Selection {
    Selection {
        cgroups: vec![path.into()],
        ..Selection::default()
    }
}

fn error(tree: &Tree, selection: &Selection) -> String {
    let error = find(selection, &tree.roots()).expect_err("a wrong selection");
    assert_eq!(error.chain().count(), 1, "one line: {error:#}");
    error.to_string()
}

fn short(targets: &[Target]) -> Vec<(Controller, &str, Vec<u32>)> {
    let name = |target: &Target| -> &str {
        let name = target.cgroup.file_name().and_then(|name| name.to_str());
        name.map_or("", |name| Box::leak(name.to_owned().into_boxed_str()))
    };
    targets
        .iter()
        .map(|t| (t.controller, name(t), t.pids.clone()))
        .collect()
}

#[test]
fn sidecars_of_applications_are_not_found_and_gateways_are() {
    let tree = Tree::new();
    let istio = |pid: u32, kind: &str, pod: &str| {
        tree.process(pid, "pilot-agent", pod);
        let agent = format!("/usr/local/bin/pilot-agent\0proxy\0{kind}\0--domain\0x\0");
        tree.write(&format!("proc/{pid}/cmdline"), &agent);
        tree.process(pid + 1, "envoy", pod);
        let status = format!("Name:\tenvoy\nPid:\t{}\nPPid:\t{pid}\n", pid + 1);
        tree.write(&format!("proc/{}/status", pid + 1), &status);
    };
    istio(10, "sidecar", "kubepods/podx/app");
    istio(20, "router", "kubepods/pody/gateway");
    istio(30, "waypoint", "kubepods/podz/waypoint");
    tree.process(40, "envoy", "kubepods/podv/old");
    let old = "envoy\0--service-cluster\0shop\0--service-node\0sidecar~10.0.0.9~shop\0";
    tree.write("proc/40/cmdline", old);
    let found = find(&nothing_named(), &tree.roots()).expect("the tree is readable");
    assert_eq!(
        short(&found.targets),
        [(Controller::Envoy, "gateway", vec![21])]
    );
}

#[test]
fn discovery_finds_every_data_plane_once_by_its_topmost_cgroup() {
    let tree = Tree::new();
    tree.process(10, "nginx", "system.slice/nginx.service");
    tree.process(11, "nginx", "system.slice/nginx.service");
    tree.process(12, "nginx", "system.slice/nginx.service/workers");
    tree.process(20, "envoy", "kubepods/podx/c1");
    tree.process(30, "bash", "user.slice");
    let found = find(&nothing_named(), &tree.roots()).expect("the tree is readable");
    let expected = [
        (Controller::Envoy, "c1", vec![20]),
        (Controller::Nginx, "nginx.service", vec![10, 11, 12]),
    ];
    assert_eq!(short(&found.targets), expected);
    assert_eq!(found.targets[1].names, ["nginx"]);
    assert_eq!(
        found.targets[1].id,
        super::super::hierarchy::id(&found.targets[1].cgroup).expect("exists")
    );
    assert!(found.skipped.is_empty());
}

#[test]
fn discovery_skips_what_is_in_the_root_cgroup_and_says_so() {
    let tree = Tree::new();
    tree.process(10, "nginx", "");
    tree.process(11, "nginx", "");
    tree.process(12, "haproxy", "a");
    let found = find(&nothing_named(), &tree.roots()).expect("the tree is readable");
    assert_eq!(
        short(&found.targets),
        [(Controller::Haproxy, "a", vec![12])]
    );
    let skipped = Skipped {
        controller: Controller::Nginx,
        pids: vec![10, 11],
        reason: Reason::RootCgroup,
    };
    assert_eq!(found.skipped, [skipped]);
}

#[test]
fn discovery_leaves_out_zombies_and_cgroups_that_went_meanwhile() {
    let tree = Tree::new();
    tree.process(10, "nginx", "a");
    tree.write("proc/10/cmdline", "");
    tree.process(11, "nginx", "b");
    std::fs::remove_dir_all(tree.cgroup2().join("b")).expect("b exists");
    tree.process(12, "nginx", "c");
    tree.write("proc/12/cgroup", "0::/c (deleted)\n");
    tree.write("proc/13/comm", "nginx\n");
    let found = find(&nothing_named(), &tree.roots()).expect("the tree is readable");
    assert_eq!(found, Found::default());
}

#[test]
fn discovery_of_one_kind_leaves_out_the_others() {
    let tree = Tree::new();
    tree.process(10, "nginx", "a");
    tree.process(11, "caddy", "b");
    let selection = Selection {
        controller: Some(Controller::Caddy),
        ..nothing_named()
    };
    let found = find(&selection, &tree.roots()).expect("the tree is readable");
    assert_eq!(short(&found.targets), [(Controller::Caddy, "b", vec![11])]);
    let unknown = Selection {
        controller: Some(Controller::Unknown),
        ..nothing_named()
    };
    assert!(error(&tree, &unknown).contains("--pid or --cgroup"));
}

#[test]
fn a_named_process_brings_its_cgroup_and_its_siblings() {
    let tree = Tree::new();
    tree.process(10, "nginx", "a");
    tree.process(11, "nginx", "a");
    tree.process(12, "sh", "a");
    tree.process(20, "nginx", "b");
    let found = find(&pid(11), &tree.roots()).expect("pid 11 runs");
    assert_eq!(
        short(&found.targets),
        [(Controller::Nginx, "a", vec![10, 11])]
    );
}

#[test]
fn a_named_process_is_followed_through_a_restart_of_its_service() {
    let tree = Tree::new();
    tree.process(10, "nginx", "nginx.service");
    let mut finder = Finder::new(&pid(10), tree.roots()).expect("pid 10 runs");
    tree.end(10, "nginx.service");
    assert_eq!(
        short(&finder.find().expect("readable").targets),
        [(Controller::Nginx, "nginx.service", vec![])]
    );
    std::fs::remove_dir_all(tree.cgroup2().join("nginx.service")).expect("it exists");
    let gone = finder.find().expect("readable");
    assert!(gone.targets.is_empty());
    assert_eq!(
        gone.skipped[0].reason,
        Reason::Gone(tree.cgroup2().join("nginx.service"))
    );
    tree.process(99, "nginx", "nginx.service");
    assert_eq!(
        short(&finder.find().expect("readable").targets),
        [(Controller::Nginx, "nginx.service", vec![99])]
    );
}

#[test]
fn a_container_that_restarts_is_followed_into_its_new_cgroup() {
    let tree = Tree::new();
    tree.process(10, "nginx", &format!("{POD}/old"));
    let mut finder = Finder::new(&pid(10), tree.roots()).expect("pid 10 runs");
    tree.end(10, &format!("{POD}/old"));
    std::fs::remove_dir_all(tree.cgroup2().join(POD).join("old")).expect("it exists");
    tree.process(11, "pause", &format!("{POD}/pause"));
    assert!(finder.find().expect("readable").targets.is_empty());
    tree.process(12, "nginx", &format!("{POD}/new"));
    assert_eq!(
        short(&finder.find().expect("readable").targets),
        [(Controller::Nginx, "new", vec![12])]
    );
}

#[test]
fn a_named_cgroup_is_taken_by_folder_or_by_its_path_in_proc() {
    let tree = Tree::new();
    tree.process(10, "haproxy", "a/b");
    for path in [tree.cgroup2().join("a"), PathBuf::from("/a")] {
        let found = find(&cgroup(path), &tree.roots()).expect("the cgroup exists");
        assert_eq!(
            short(&found.targets),
            [(Controller::Haproxy, "a", vec![10])]
        );
    }
}

#[test]
fn nested_and_repeated_names_give_one_target() {
    let tree = Tree::new();
    tree.process(10, "nginx", "a/b");
    let selection = Selection {
        pids: vec![10, 10],
        cgroups: vec![tree.cgroup2().join("a"), tree.cgroup2().join("a/b")],
        ..Selection::default()
    };
    let found = find(&selection, &tree.roots()).expect("both exist");
    assert_eq!(short(&found.targets), [(Controller::Nginx, "a", vec![10])]);
}

#[test]
fn the_named_controller_overrides_the_guess() {
    let tree = Tree::new();
    tree.process(10, "my-proxy", "a");
    assert!(error(&tree, &pid(10)).contains("--controller"));
    assert!(error(&tree, &cgroup("/a")).contains("--controller"));
    for selection in [pid(10), cgroup("/a")] {
        let selection = Selection {
            controller: Some(Controller::Envoy),
            ..selection
        };
        let found = find(&selection, &tree.roots()).expect("the kind is named");
        assert_eq!(short(&found.targets), [(Controller::Envoy, "a", vec![10])]);
        assert_eq!(found.targets[0].names, ["my-proxy"]);
    }
}

#[test]
fn each_wrong_name_is_one_line_with_a_remedy() {
    let tree = Tree::new();
    tree.process(10, "nginx", "");
    tree.process(11, "nginx", "a");
    tree.write("proc/11/cgroup", "0::/../elsewhere\n");
    tree.write("v1/cpu/cgroup.procs", "");
    tree.write("plain/file", "");
    let base = tree.cgroup2();
    let base = base.parent().unwrap_or(Path::new("/"));
    assert!(error(&tree, &pid(404)).starts_with("no process has pid 404: name a running one"));
    assert!(error(&tree, &pid(10)).contains("pid 10 (nginx) cannot be watched: it is in the root"));
    assert!(error(&tree, &pid(11)).contains("outside the hierarchy"));
    assert!(error(&tree, &cgroup(base.join("v1/cpu"))).contains("is a cgroup v1 folder"));
    assert!(
        error(&tree, &cgroup(base.join("plain"))).contains("is no cgroup: name a folder below")
    );
    assert!(error(&tree, &cgroup("/not/there")).contains("no cgroup at /not/there"));
    assert!(error(&tree, &cgroup(tree.cgroup2())).contains("is the root cgroup"));
}

#[test]
fn a_named_process_is_told_by_its_container_where_pods_have_no_folder() {
    let tree = Tree::new();
    let id = "1a".repeat(32);
    tree.process(12, "nginx", &format!("system.slice/crio-{id}.scope"));
    let mut finder = Finder::new(&pid(12), tree.roots()).expect("a right selection");
    finder.await_pods("node-1");
    let container = Container {
        id: Some(format!("cri-o://{id}").into()),
        ..Container::default()
    };
    finder.replace_pods([&Pod {
        name: Name::new("shop", "web-1"),
        uid: "0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a".into(),
        node: Some("node-1".into()),
        containers: vec![container],
        ..Pod::default()
    }]);
    let found = finder.find().expect("the tree is readable").targets;
    assert_eq!(found[0].pod, Some(Name::new("shop", "web-1")));
}
