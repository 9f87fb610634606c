//! `start`: finds the pod's shim, or makes one, and tells containerd where it listens. Also `-info` and `-v`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use linux::absent::{absent, exists};
use linux::mountinfo::{self, Mount};
use linux::scheduling::share_core;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::bootstrap::{self, StartParams};
use crate::bundle::Config;
use crate::flags::Flags;
use crate::runtime::{Runtime, options};
use crate::socket::listens;
use crate::stdout;

/// Where shims listen, below containerd's usual state directory whatever its own is.
const SOCKETS: &str = "/run/containerd/s";

/// Annotations that say which shim a container belongs to, the first that is there.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Type of a features document, as Go's typeurl names it.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

pub fn start(flags: &Flags) -> Result<()> {
    if flags.id.is_empty() || flags.namespace.is_empty() {
        bail!("start needs -id and -namespace");
    }
    // What is no UTF-8 is not containerd's.
    let params = StartParams::parse(&bootstrap::stdin()?, flags, |name| std::env::var(name).ok())?;
    let options = options::read(params.options.as_ref())?;
    let config = Config::read(Path::new("."))?;
    let group = GROUPS.iter().find_map(|name| config.annotations.get(*name)).unwrap_or(&flags.id);
    let dir = params.socket_dir.clone().unwrap_or_else(|| SOCKETS.into());
    let path = socket_path(&dir, &[&flags.address, &flags.namespace, group]);
    let address = format!("unix://{}", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&dir)
        .with_context(|| format!("make {}", dir.display()))?;
    // Two containers of a pod may be started at once.
    let lock = File::open(&dir).with_context(|| format!("open {}", dir.display()))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e);
    // Its own drop panics where unlocking fails; this process's end is as good.
    let _lock = ManuallyDrop::new(lock.with_context(|| format!("lock {}", dir.display()))?);
    if !listens(&path)? {
        start_server(flags, &params, &options, &path)
            // The first error is the one to report.
            .inspect_err(|_| drop(fs::remove_file(&path)))
            .context("start the shim's server")?;
    }
    // containerd 1.x finds it again by this.
    fs::write("address", &address).context("write the bundle's address file")?;
    stdout::write(&params.response(&address)?)
}

/// FNV-1a, 128 bits: the words make a name of a length that always fits into a socket's path (108 bytes).
fn socket_path(dir: &Path, words: &[&str]) -> PathBuf {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0x6c62272e07bb014262b821756295c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b)
    });
    dir.join(format!("{hash:032x}"))
}

/// Starts the server, which listens on its stdin: no descriptor but the standard three needs to be passed.
fn start_server(flags: &Flags, params: &StartParams, options: &oci::Options, path: &Path) -> Result<()> {
    absent(fs::remove_file(path)).with_context(|| format!("remove {}", path.display()))?;
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
    // Nobody else may connect (CVE-2020-15257 was a socket that had no mode). Nobody can be before anybody accepts.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("chmod the socket")?;
    let mut server = Command::new(std::env::current_exe().context("find the shim's program")?);
    server.args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address, "-socket"]);
    server.arg(path);
    if flags.debug {
        server.arg("-debug");
    }
    server.env("TTRPC_ADDRESS", params.ttrpc_address.as_deref().unwrap_or_default());
    server.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(log()?).process_group(0);
    let mut server = server.spawn()?;
    let ready = set_up(server.id(), options);
    if ready.is_err() {
        // The first error is the one to report.
        let _ = server.kill();
        let _ = server.wait();
    }
    ready
}

/// containerd's log reads the bundle's fifo `log`. Opened at both ends, it neither blocks nor breaks when containerd
/// goes away. A caller without one gets no lines.
fn log() -> Result<Stdio> {
    let how = OFlag::O_NONBLOCK.bits();
    let fifo = absent(OpenOptions::new().read(true).write(true).custom_flags(how).open("log"));
    Ok(fifo.context("open the bundle's fifo log")?.map_or_else(Stdio::null, Stdio::from))
}

/// What the server can't do to itself before containerd knows it.
fn set_up(pid: u32, options: &oci::Options) -> Result<()> {
    if !options.shim_cgroup.is_empty() {
        join_cgroup(&options.shim_cgroup, pid)
            .with_context(|| format!("ShimCgroup {}", options.shim_cgroup))?;
    }
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        share_core(pid).context("core scheduling")?;
    }
    // Rather the shim than containerd, rather a container than the shim.
    let score = fs::read_to_string("/proc/self/oom_score_adj").context("read oom_score_adj")?;
    let score = score.trim().parse::<i32>().context("read oom_score_adj")?;
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, (score + 1).min(1000).to_string()).with_context(|| format!("write {path}"))
}

/// Moves the server into a cgroup, in every hierarchy that has it.
fn join_cgroup(cgroup: &str, pid: u32) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mounts = mountinfo::parse(&mounts)?;
    let hierarchies =
        mounts.iter().filter(|mount| matches!(mount.kind, "cgroup" | "cgroup2")).map(Mount::target);
    let mut joined = false;
    for hierarchy in hierarchies {
        let procs = Path::new(&hierarchy).join(cgroup.trim_start_matches('/')).join("cgroup.procs");
        if exists(&procs).with_context(|| format!("stat {}", procs.display()))? {
            let mut file = OpenOptions::new().write(true).open(&procs)?;
            file.write_all(pid.to_string().as_bytes())
                .with_context(|| format!("write {}", procs.display()))?;
            joined = true;
        }
    }
    if joined { Ok(()) } else { bail!("no hierarchy has this cgroup") }
}

/// `-v`
pub fn version() -> Result<()> {
    let text = format!("containerd-shim-ampoule-v2:\n  Version:  {}\n", env!("CARGO_PKG_VERSION"));
    stdout::write(text.as_bytes())
}

/// `-info`: what CRI wants to know of a runtime, such as whether it has user namespaces.
pub fn info() -> Result<()> {
    let bytes = bootstrap::stdin()?;
    let any = if bytes.is_empty() {
        None
    } else {
        Some(Any::parse_from_bytes(&bytes).context("stdin holds no options")?)
    };
    let runtime = Runtime::new(&options::read(any.as_ref())?, "")?;
    // A runtime without `features` has none to tell.
    let features =
        runtime.features()?.map(|value| Any { type_url: FEATURES.to_owned(), value, ..Default::default() });
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), ..Default::default() };
    let info = RuntimeInfo {
        name: "containerd-shim-ampoule-v2".to_owned(),
        version: MessageField::some(version),
        options: any.into(),
        features: features.into(),
        ..Default::default()
    };
    stdout::write(&info.write_to_bytes()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_name_tells_every_word_from_the_next_and_is_short() {
        let path = |words: &[&str]| socket_path(Path::new(SOCKETS), words);
        assert_eq!(path(&["a", "b"]), path(&["a", "b"]));
        assert_ne!(path(&["a", "b"]), path(&["ab", ""]));
        assert_ne!(path(&["a", "b"]), path(&["a", "c"]));
        assert!(path(&[&"x".repeat(4096)]).as_os_str().len() < 60);
        // FNV's own test vector, for "a": names must not change from one version of the shim to the next.
        let plain = "a".bytes().fold(0x6c62272e07bb014262b821756295c58d_u128, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b)
        });
        assert_eq!(format!("{plain:032x}"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
