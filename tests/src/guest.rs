//! Other kernels: a Debian kernel series and a scene in, the console's lines of a guest that played it
//! out. Downloads into the cache folder, installs nothing, and no guest outlives its test.
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::agent::{self, Finding};
use crate::process::{Process, sibling};
use crate::scratch::Scratch;
use crate::tools;

/// Longest a guest may take: it is emulated, and its verifier with it.
const LIMIT: Duration = Duration::from_mins(5);
/// Without KVM, which a virtual machine rarely has; without a network or a disk.
const MACHINE: [&str; 13] = [
    "-accel",
    "tcg",
    "-cpu",
    "max,la57=off",
    "-m",
    "512",
    "-smp",
    "1",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
];
/// The guest ends on a panic instead of waiting; nothing but our lines on its console.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=1 panic=-1";

/// What happens in a guest.
pub struct Scene<'a> {
    /// What `guest/init` goes on with once loopback, mounts and its functions are there.
    pub script: &'a str,
    /// What nginx has beside `guest/nginx.conf`; the script may write it itself.
    pub routes: &'a str,
    /// Programs of this crate that it has beside the agent.
    pub programs: &'a [&'a str],
}

/// What a guest has written to its console, line by line.
pub struct Console(Vec<String>);

impl Console {
    /// What follows this prefix, of the lines that have it.
    pub fn after(&self, prefix: &str) -> Vec<&str> {
        let lines = self.0.iter();
        lines.filter_map(|line| line.strip_prefix(prefix)).collect()
    }

    /// The findings in lines with this prefix.
    pub fn findings(&self, prefix: &str) -> Result<Vec<Finding>> {
        let lines = self.after(prefix).into_iter();
        lines
            .map(|line| Ok(Finding(serde_json::from_str(line)?)))
            .collect::<Result<_>>()
            .with_context(|| self.text())
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.0.join("\n")
    }
}

/// Plays the scene on a kernel of this series, to its end; `None` if apt has no such package.
pub fn play(series: &str, scene: &Scene<'_>) -> Result<Option<Console>> {
    let Some(kernel) = kernel(series)? else {
        eprintln!("SKIPPED: apt has no package linux-image-{series}.*-cloud-amd64");
        return Ok(None);
    };
    let console = boot(&kernel, scene)?;
    ensure!(console.after("end") == [""], "{}", console.text());
    let release = console.after(&format!("kernel {series}."));
    ensure!(
        release.len() == 1,
        "this is not {series}: {}",
        console.text()
    );
    Ok(Some(console))
}

/// Newest kernel image of a series (`6.1`), downloaded once; `None` if apt has no such package.
fn kernel(series: &str) -> Result<Option<PathBuf>> {
    let folder = tools::cache::folder()
        .context("failed to find the cache folder: HOME is not set")?
        .join("kernels");
    fs::create_dir_all(&folder).context("failed to create the folder of kernels")?;
    if let Some(image) = cached(&folder, series)? {
        return Ok(Some(image));
    }
    let mut package = newest(series)?;
    if package.is_none() {
        // A machine whose package lists were removed, as in images of containers.
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        package = newest(series)?;
    }
    let Some(package) = package else {
        return Ok(None);
    };
    fetch(&folder, &package)?;
    let image = cached(&folder, series)?;
    ensure!(image.is_some(), "failed to find a kernel in {package}");
    Ok(image)
}

fn cached(folder: &Path, series: &str) -> Result<Option<PathBuf>> {
    let prefix = format!("vmlinuz-{series}.");
    let entries = fs::read_dir(folder).context("failed to list the kernels")?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    names.sort_by_key(|name| version(name));
    Ok(names.pop().map(|name| folder.join(name)))
}

/// The signed cloud image of the highest version that apt knows.
fn newest(series: &str) -> Result<Option<String>> {
    let prefix = format!("linux-image-{series}.");
    let output = Command::new("apt-cache")
        .args(["pkgnames", &prefix])
        .output()
        .context("failed to run apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text.lines().filter(|name| name.ends_with("-cloud-amd64"));
    Ok(names.max_by_key(|name| version(name)).map(str::to_owned))
}

/// The numbers in a name, in their order.
fn version(name: &str) -> Vec<u32> {
    let numbers = name.split(|letter: char| !letter.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Downloads a package and keeps its kernel image.
fn fetch(folder: &Path, package: &str) -> Result<()> {
    let scratch = Scratch::new()?;
    run(Command::new("apt-get")
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(scratch.path()))?;
    let entries = fs::read_dir(scratch.path()).context("failed to list the download")?;
    let archive = entries
        .flatten()
        .next()
        .context("failed to find the download")?;
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(archive.path())
        .arg(scratch.path()))?;
    let boot = fs::read_dir(scratch.path().join("boot")).context("failed to list the package")?;
    for entry in boot.flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("vmlinuz-") {
            // Another test may look for it at this moment: it appears whole or not at all.
            let partial = folder.join(format!("partial-{}", std::process::id()));
            fs::copy(entry.path(), &partial).context("failed to keep the kernel")?;
            fs::rename(&partial, folder.join(name)).context("failed to keep the kernel")?;
        }
    }
    Ok(())
}

/// Boots this kernel with the agent, nginx and what the scene needs.
fn boot(kernel: &Path, scene: &Scene<'_>) -> Result<Console> {
    let scratch = Scratch::new()?;
    let initramfs = initramfs(scratch.path(), scene)?;
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(MACHINE)
        .args(["-serial", "stdio", "-append", COMMAND_LINE]);
    command
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut guest = Process::start(&mut command).context("failed to run qemu-system-x86")?;
    let console = guest
        .child()
        .stdout
        .take()
        .context("failed to open the console")?;
    let reader = thread::spawn(move || {
        let lines = BufReader::new(console).split(b'\n').map_while(Result::ok);
        lines
            .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
            .collect()
    });
    let ended = guest.wait(LIMIT);
    drop(guest);
    let lines = reader.join();
    let console = Console(lines.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    let status = ended.with_context(|| console.text())?;
    ensure!(
        status.success(),
        "failed to run the guest: {status}:\n{}",
        console.text()
    );
    Ok(console)
}

/// Everything that the guest has: a few programs, the libraries they name, and some texts.
fn initramfs(scratch: &Path, scene: &Scene<'_>) -> Result<PathBuf> {
    let root = scratch.join("root");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder)).context("failed to create the guest's folders")?;
    }
    let tool = |name| tools::executable(name).with_context(|| format!("failed to find {name}"));
    let mut programs = vec![
        ("busybox", tool("busybox")?),
        ("nginx", tool("nginx")?),
        ("ingress-trace", agent::program()?),
    ];
    for name in scene.programs {
        programs.push((*name, sibling(name)?));
    }
    for (name, program) in &programs {
        copy(program, &root.join("bin").join(name))?;
        for library in libraries(program)? {
            copy(
                &library,
                &root.join(library.strip_prefix("/").unwrap_or(&library)),
            )?;
        }
    }
    let texts = [
        ("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/nginx.conf", include_str!("../guest/nginx.conf")),
        ("etc/routes.conf", scene.routes),
        ("scene", scene.script),
        ("init", include_str!("../guest/init")),
    ];
    for (path, text) in texts {
        fs::write(root.join(path), text).context("failed to write the guest's files")?;
    }
    run(Command::new("chmod").arg("755").arg(root.join("init")))?;
    pack(&root, &scratch.join("initramfs"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("failed to find the guest's folder")?;
    fs::create_dir_all(folder).context("failed to create the guest's folders")?;
    fs::copy(from, to).with_context(|| format!("failed to copy {}", from.display()))?;
    Ok(())
}

/// Paths of the shared libraries and of the loader; none for a static program.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("failed to run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    // A static program's name is repeated, with a colon.
    Ok(words
        .filter(|word| !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// Packs a folder as cpio, not compressed: an emulated processor takes its time to undo that.
fn pack(root: &Path, to: &Path) -> Result<PathBuf> {
    let file = fs::File::create(to).context("failed to create the initramfs")?;
    let mut find = Process::start(
        Command::new("find")
            .arg(".")
            .current_dir(root)
            .stdout(Stdio::piped()),
    )?;
    let names = find
        .child()
        .stdout
        .take()
        .context("failed to open find's stdout")?;
    run(Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(names)
        .stdout(file))?;
    Ok(to.to_owned())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("failed to start {command:?}"))?;
    ensure!(status.success(), "failed to run {command:?}: {status}");
    Ok(())
}
