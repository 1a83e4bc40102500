//! Builds the tests' Kubernetes API server: comes in `tests/apiserver`, goes out its program in
//! the cache. Go is the machine's, or PyPI's in the cache; its own caches stay where it has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apiserver::{LINKER_FLAGS, program, version};
use crate::bpf;
use crate::bpf::cache::{self, GO};
use crate::step::{root, run, step};

/// The oldest Go that builds it: 1.x.
const OLDEST: u32 = 25;
/// Where Kubernetes keeps what `/version` says.
const SAYS: &str = "k8s.io/component-base/version";

/// Whether the API server is missing.
pub fn wanted() -> bool {
    cache::folder().is_none_or(|cache| !program(&cache).is_file())
}

/// A Go that is new enough: on PATH, where its own archive puts it, or in the cache.
pub fn find() -> Option<PathBuf> {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    let known = bpf::executable("go").into_iter();
    let mut known = known
        .chain(usual.is_file().then_some(usual))
        .chain(GO.find());
    known.find(|go| minor(go).is_some_and(|minor| minor >= OLDEST))
}

fn minor(go: &Path) -> Option<u32> {
    let mut ask = Command::new(go);
    ask.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let output = ask.current_dir("/").output().ok()?;
    read_minor(str::from_utf8(&output.stdout).ok()?)
}

/// `go1.26.8` and the like.
fn read_minor(version: &str) -> Option<u32> {
    let minor = version.trim().strip_prefix("go1.")?;
    let digits = minor.split(|other: char| !other.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Builds it beside its place, then moves it there: what is there is whole.
pub fn build() -> Result<()> {
    let go = find().context("failed to find Go")?;
    let cache = cache::folder().context("failed to find the cache folder: HOME is not set")?;
    let place = program(&cache);
    let what = format!("Kubernetes {} for the tests", version());
    step(&format!("building {what} (minutes, once)"), || {
        let folder = place.parent().expect("the program lies in a folder");
        fs::create_dir_all(folder).context("failed to make its folder")?;
        let part = folder.join(format!("part-{}", std::process::id()));
        let built = run(&mut command(&go, &part));
        let built = built.with_context(|| format!("failed to build {what}"));
        let moved = built.and_then(|()| {
            fs::rename(&part, &place).with_context(|| format!("failed to make {}", place.display()))
        });
        // Gone where all went well.
        let _ = fs::remove_file(&part);
        moved
    })
}

fn command(go: &Path, out: &Path) -> Command {
    let mut parts = version().split('.');
    let (major, minor) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let flags = format!(
        "{LINKER_FLAGS} -X {SAYS}.gitVersion=v{} -X {SAYS}.gitMajor={major} \
         -X {SAYS}.gitMinor={minor} -X {SAYS}.gitTreeState=clean",
        version()
    );
    let mut build = Command::new(go);
    build.current_dir(root().join("tests/apiserver"));
    build.args(["build", "-buildvcs=false", "-gcflags=all=-dwarf=false"]);
    build.arg(format!("-ldflags={flags}")).arg("-o").arg(out);
    build.env("CGO_ENABLED", "0").env("GOWORK", "off");
    // No other Go than the one that was found; the module says all that it needs.
    build.env("GOTOOLCHAIN", "local").env_remove("GOFLAGS");
    build
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(read_minor("go1.26.8\n"), Some(26));
        assert_eq!(read_minor("go1.27rc1"), Some(27));
        assert_eq!(read_minor("devel +abc"), None);
    }
}
