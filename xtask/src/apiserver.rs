//! Where the tests' Kubernetes API server belongs: its sources (`tests/apiserver`) in, its version
//! and its place in the cache out. Shared by xtask and the tests (std only); must not build it.

use std::path::{Path, PathBuf};

const MODULE: &str = include_str!("../../tests/apiserver/go.mod");
const SOURCES: [&str; 4] = [
    MODULE,
    include_str!("../../tests/apiserver/go.sum"),
    include_str!("../../tests/apiserver/main.go"),
    LINKER_FLAGS,
];

/// For Go's linker, less what the version says of itself.
pub const LINKER_FLAGS: &str = "-s -w";

/// The version of Kubernetes that it is made of, such as `1.35.4`.
pub fn version() -> &'static str {
    let line = MODULE.lines().map(str::trim);
    let mut versions = line.filter_map(|line| line.strip_prefix("k8s.io/kubernetes v"));
    versions.next().expect("go.mod requires k8s.io/kubernetes")
}

/// Its place in the cache folder: other sources make another program.
pub fn program(cache: &Path) -> PathBuf {
    let key = fingerprint(&SOURCES);
    let folder = format!("kubernetes-{}-{key:016x}", version());
    cache.join(folder).join("apiserver")
}

/// FNV-1a over the texts and their lengths: the same in every build of every Rust.
fn fingerprint(texts: &[&str]) -> u64 {
    let lengths = texts.iter().flat_map(|text| text.len().to_le_bytes());
    let bytes = texts.iter().flat_map(|text| text.bytes()).chain(lengths);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_is_another_program() {
        let one = fingerprint(&["module", "sum"]);
        assert_eq!(one, fingerprint(&["module", "sum"]));
        assert_ne!(one, fingerprint(&["module", "sums"]));
        assert_ne!(one, fingerprint(&["modules", "um"]));
    }

    #[test]
    fn its_place_has_the_version_of_kubernetes() {
        let place = program(Path::new("/cache")).display().to_string();
        assert!(place.starts_with("/cache/kubernetes-1."), "{place}");
        assert_eq!(version().split('.').count(), 3, "{}", version());
    }
}
