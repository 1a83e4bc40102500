//! In: nginx's command line and configuration, and its workers' sockets. Out: connections in use
//! against `worker_connections`. Best effort: files that the configuration includes are not read.
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::descriptors::closest;
use super::{ProcessUsage, Usage};
use crate::cause::taxonomy::Controller;
use crate::profiles;
use crate::targets::process;

/// What nginx takes when nothing is set.
const DEFAULT: u64 = 512;
/// `events` stands near the top, also in the megabytes that ingress-nginx generates.
const MOST_BYTES: u64 = 256 * 1024;
/// Where the packagings have their configuration.
const PATHS: &[&str] = &[
    "/etc/nginx/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
];

/// The worker closest to the limit.
pub(super) fn worst(proc: &Path, pids: &[u32]) -> Option<ProcessUsage> {
    let titles: BTreeMap<u32, String> = pids
        .iter()
        .filter_map(|pid| Some((*pid, process::title(proc, *pid)?)))
        .collect();
    let limit = titles
        .iter()
        .find_map(|(pid, title)| limit(proc, *pid, title))?;
    let profile = profiles::of(Controller::Nginx);
    let workers = titles.iter().filter(|(_, title)| profile.carries(title));
    closest(workers.map(|(pid, _)| {
        let used = process::sockets(proc, *pid).len() as u64;
        ProcessUsage {
            pid: *pid,
            usage: Usage { used, limit },
        }
    }))
}

/// Only the master's title (or a single process's command line) says where the file is.
fn limit(proc: &Path, pid: u32, title: &str) -> Option<u64> {
    if title.starts_with("nginx: worker") || title.starts_with("nginx: cache") {
        return None;
    }
    let root = process::folder(proc, pid).join("root");
    let named = config_path(title);
    let paths = named
        .iter()
        .map(PathBuf::as_path)
        .chain(PATHS.iter().map(Path::new));
    // A named file that cannot be read says nothing about another one.
    let mut paths = paths.take(if named.is_some() { 1 } else { usize::MAX });
    let text = paths.find_map(|path| read(&root.join(path.strip_prefix("/").ok()?)))?;
    Some(worker_connections(&text).unwrap_or(DEFAULT))
}

/// The file that `-c` names, below the prefix that `-p` names when it is relative.
pub(super) fn config_path(title: &str) -> Option<PathBuf> {
    let after = |flag: &str| {
        let mut words = title.split_whitespace().skip_while(|word| *word != flag);
        words.nth(1).map(PathBuf::from)
    };
    let file = after("-c")?;
    if file.is_absolute() {
        Some(file)
    } else {
        Some(after("-p")?.join(file))
    }
}

/// The content belongs to the container, who may put anything there: never wait for it, never read
/// more than its beginning.
fn read(path: &Path) -> Option<String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The directive's value; None when the text does not set it.
pub(super) fn worker_connections(config: &str) -> Option<u64> {
    let code = config
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let statements = code.flat_map(|line| line.split([';', '{', '}']));
    let mut values = statements.filter_map(|statement| {
        let mut words = statement.split_whitespace();
        (words.next()? == "worker_connections")
            .then(|| words.next()?.parse().ok())
            .flatten()
    });
    values.next()
}
