//! In: the source of the stages between the kernel and the sinks. Out: proof that none of them does
//! I/O or reads a clock, so that a recording gives the findings of the live run.
use std::path::{Path, PathBuf};

const STAGES: &[&str] = &[
    "event.rs",
    "ocsp.rs",
    "own.rs",
    "settle.rs",
    "flow",
    "gap.rs",
    "hold.rs",
    "cause",
    "profiles",
    "counts.rs",
    "finding.rs",
    "cluster/object.rs",
    "cluster/index",
    "identity.rs",
    "past.rs",
    "watched/answered.rs",
    "cluster/partial",
];
/// What belongs to the edges: the kernel, the runtime, the API, the sinks, files and clocks.
const FOREIGN: &[&str] = &[
    "aya",
    "aya_log",
    "axum",
    "kube",
    "prometheus",
    "tokio",
    "libc",
    "fs",
    "process",
    "Instant",
    "SystemTime",
    "Timestamp::now",
];

fn sources(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in path.read_dir().expect("a folder of sources") {
            sources(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|end| end == "rs") {
        found.push(path.to_owned());
    }
}

/// Whether code names something as an import or as the beginning of a path.
fn names(code: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let path = ["::", ";", ",", "}", "("]
            .iter()
            .any(|sign| after.starts_with(sign));
        let import = before.trim_end().ends_with("use");
        !before.ends_with(inside) && !before.ends_with('.') && (path || import)
    })
}

fn foreign(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        // What is quoted is text for people.
        let code: String = code.split('"').step_by(2).collect();
        for word in FOREIGN.iter().filter(|word| names(&code, word)) {
            found.push(format!("{}: {word}", number + 1));
        }
    }
    found
}

#[test]
fn no_stage_between_the_kernel_and_the_sinks_does_io_or_reads_a_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for stage in STAGES {
        let mut files = Vec::new();
        sources(&root.join(stage), &mut files);
        assert!(!files.is_empty(), "{stage} has no sources");
        for file in files {
            let source = std::fs::read_to_string(&file).expect("a source file");
            assert_eq!(
                foreign(&source),
                Vec::<String>::new(),
                "in {}",
                file.display()
            );
        }
    }
}

#[test]
fn what_belongs_to_the_edges_is_found_wherever_it_is_named() {
    for line in [
        "use aya::Ebpf;",
        "    let now = std::time::Instant::now();",
        "use std::{collections::HashMap, fs};",
        "let _ = jiff::Timestamp::now();",
        "pub use kube::Client; // an edge",
        "fn f(m: prometheus::Registry) {}",
    ] {
        assert_eq!(foreign(line).len(), 1, "{line}");
    }
    for line in [
        "// use aya::Ebpf",
        "let a = delaya::x;",
        "event.process(x)",
        "kubelet",
        "\"aya::x\"",
    ] {
        assert_eq!(foreign(line), Vec::<String>::new(), "{line}");
    }
}
