//! The cgroup steps of a plan. Each is a handful of system calls on the host's cgroup mounts, where no container
//! ever makes a path; a file is opened once and written in place, without asking first whether it is there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use linux::absent::{absent, is_dir};
use linux::{bpf, kernfs};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, chown, mkdir};

use crate::plan::step::IfMissing;

/// Makes a container's cgroup and those above it. One that is already there is taken over if it is unused.
///
/// # Errors
/// Names the call; or says that the cgroup has processes or is frozen, which would be another container's.
pub fn make(dir: &Path) -> Result<()> {
    match make_with_parents(dir) {
        Err(Errno::EEXIST) => refuse_used(dir),
        other => other.map_err(|e| anyhow!("mkdir {}: {e}", dir.display())),
    }
}

fn make_with_parents(dir: &Path) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    match (mkdir(dir, mode), dir.parent()) {
        (Err(Errno::ENOENT), Some(parent)) => {
            make_with_parents(parent).or_else(|e| if e == Errno::EEXIST { Ok(()) } else { Err(e) })?;
            mkdir(dir, mode)
        }
        (other, _) => other,
    }
}

/// A process that is cloned into another container's cgroup would share its limits, and be killed with it.
fn refuse_used(dir: &Path) -> Result<()> {
    // A group above that was only just made has files of its own.
    if !is_dir(dir).with_context(|| format!("stat {}", dir.display()))? {
        bail!("mkdir {}: {}: a file of the cgroup there has that name", dir.display(), Errno::EEXIST);
    }
    let text = |file| {
        let path = dir.join(file);
        let text = absent(kernfs::read(&path)).map_err(|e| anyhow!("read {}: {e}", path.display()))?;
        Ok::<_, anyhow::Error>(text.unwrap_or_default())
    };
    let events = text("cgroup.events")?;
    let populated =
        if events.is_empty() { !text("cgroup.procs")?.is_empty() } else { events.contains("populated 1") };
    if populated {
        bail!("{} is already there and has processes in it: another container's cgroup?", dir.display());
    }
    if events.contains("frozen 1") || text("freezer.state")?.starts_with("FR") {
        bail!("{} is already there and frozen: thaw or remove it first", dir.display());
    }
    Ok(())
}

/// Gives the children of a v2 cgroup its controllers; those that are only nice to have may be refused.
///
/// # Errors
/// When one of `required` can't be had, with the kernel's answer and what it means.
pub fn enable(dir: &Path, controllers: &[String], required: &[String]) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let enabled = kernfs::read(&file).map_err(|e| anyhow!("read {}: {e}", file.display()))?;
    let missing: Vec<&String> =
        controllers.iter().filter(|c| !enabled.split_whitespace().any(|e| e == **c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = missing.iter().map(|c| format!("+{c}")).collect();
    // What it refuses is asked for one by one below.
    if kernfs::write(&file, &all.join(" ")).is_ok() {
        return Ok(());
    }
    // The write is all or nothing, so one that can't be had keeps out the others.
    for (name, one) in missing.iter().zip(&all) {
        if let Err(e) = kernfs::write(&file, one)
            && (required.contains(name) || why_not_enabled(e).is_empty())
        {
            bail!("write {one} to {}: {e}{}", file.display(), why_not_enabled(e));
        }
    }
    Ok(())
}

/// cgroup-v2.rst, "Controlling Controllers" and "Thread Mode".
fn why_not_enabled(e: Errno) -> &'static str {
    match e {
        Errno::EBUSY => " (this cgroup has processes of its own; choose a linux.cgroupsPath beside it)",
        Errno::ENOENT => " (the cgroup above doesn't hand this controller down)",
        Errno::EOPNOTSUPP => " (this cgroup is threaded or lies below one with processes)",
        Errno::EACCES | Errno::EROFS | Errno::EPERM => " (this cgroup is not delegated to us)",
        _ => "",
    }
}

/// Fills a v1 cpuset, and those above it, where they are empty, with what their parent has.
///
/// # Errors
/// Names the call.
pub fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill_cpuset(dir, file)?;
    }
    Ok(())
}

/// Ends at the latest at the hierarchy's root, which is never empty.
fn fill_cpuset(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    let own = kernfs::read(&path).map_err(|e| anyhow!("read {}: {e}", path.display()))?;
    let own = own.trim_end();
    match dir.parent() {
        Some(parent) if own.is_empty() => {
            let value = fill_cpuset(parent, file)?;
            kernfs::write(&path, &value).map_err(|e| anyhow!("write {value} to {}: {e}", path.display()))?;
            Ok(value)
        }
        _ => Ok(own.to_owned()),
    }
}

/// Writes the values one after the other.
///
/// # Errors
/// Names the file and the value.
pub fn write(dir: &Path, file: &str, values: &[String], missing: &IfMissing) -> Result<()> {
    let path = dir.join(file);
    let fd = match (kernfs::open(&path), missing) {
        (Err(Errno::ENOENT), IfMissing::Skip) => return Ok(()),
        (Err(Errno::ENOENT), IfMissing::Instead { file, values }) => {
            return write(dir, file, values, &IfMissing::Fail);
        }
        (Err(e @ Errno::ENOENT), IfMissing::Fail) => {
            bail!("open {}: {e}: this kernel or cgroup has no such limit", path.display())
        }
        (other, _) => other.map_err(|e| anyhow!("open {}: {e}", path.display()))?,
    };
    for value in values {
        kernfs::put(&fd, value).map_err(|e| anyhow!("write {value} to {}: {e}", path.display()))?;
    }
    Ok(())
}

/// Hangs the device program on a v2 cgroup.
///
/// # Errors
/// Names the call, with the verifier's words if it refused the program.
pub fn limit_devices(dir: &Path, program: &[u64]) -> Result<()> {
    let program = bpf::load_device_program(program).map_err(|refused| {
        let colon = if refused.verifier.is_empty() { "" } else { ": " };
        anyhow!("bpf(BPF_PROG_LOAD): {}{colon}{}", refused.errno, refused.verifier)
    })?;
    let cgroup = open(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| anyhow!("open {}: {e}", dir.display()))?;
    bpf::attach_device_program(program.as_fd(), cgroup.as_fd())
        .map_err(|e| anyhow!("bpf(BPF_PROG_ATTACH) to {}: {e}", dir.display()))
}

/// Gives a v2 cgroup to a container's root, so that it can divide it: the directory, and the files that the kernel
/// lists as safe to hand over (config-linux.md#cgroup-ownership).
///
/// # Errors
/// Names the call.
pub fn own(dir: &Path, uid: u32, gid: u32) -> Result<()> {
    let give = |path: &Path| chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    give(dir).map_err(|e| anyhow!("chown {}: {e}", dir.display()))?;
    // The list is there since Linux 4.15.
    const LIST: &str = "/sys/kernel/cgroup/delegate";
    let files = absent(kernfs::read(Path::new(LIST))).map_err(|e| anyhow!("read {LIST}: {e}"))?;
    let files = files.unwrap_or_else(|| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for path in files.lines().map(|file| dir.join(file)) {
        match give(&path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(e) => bail!("chown {}: {e}", path.display()),
        }
    }
    Ok(())
}

/// Whether systemd has put the process where the plan says: its own root may be elsewhere than it seems.
///
/// # Errors
/// It is not there, and where to look.
pub fn check_inside(dir: &Path, pid: Pid) -> Result<()> {
    let file = dir.join("cgroup.procs");
    let list = kernfs::read(&file).map_err(|e| anyhow!("read {}: {e}", file.display()))?;
    if !list.lines().any(|line| line.parse() == Ok(pid.as_raw())) {
        bail!("systemd has not moved process {pid} into {}", dir.display());
    }
    refuse_frozen(dir, "cgroup.events")
}

/// Whether what is in the group can run. `file` tells: v2's cgroup.events, v1's freezer.state.
///
/// # Errors
/// It is frozen, by itself or from above; its file can't be read.
pub fn refuse_frozen(dir: &Path, file: &str) -> Result<()> {
    let path = dir.join(file);
    match kernfs::read(&path) {
        // A v2 group has its freezer since Linux 5.2.
        Err(Errno::ENOENT) => Ok(()),
        Ok(state) if state == "THAWED\n" || state.lines().any(|line| line == "frozen 0") => Ok(()),
        Ok(_) => bail!("it is, or one above it: nothing would run there; thaw that first"),
        Err(e) => bail!("read {}: {e}", path.display()),
    }
}

/// A handle by which a process can move itself into a v1 cgroup.
///
/// # Errors
/// Names the call.
pub fn open_to_enter(dir: &Path) -> Result<OwnedFd> {
    let path = dir.join("tasks");
    kernfs::open(&path).map_err(|e| anyhow!("open {}: {e}", path.display()))
}

/// Moves this process, which has one thread, into a v1 cgroup. A thread that moves itself stops nobody's forks
/// (Linux 5.5); a process moved by way of `cgroup.procs` waits for RCU in every hierarchy, milliseconds each.
///
/// # Errors
/// Names the call.
pub fn enter(tasks: impl AsFd) -> Result<()> {
    kernfs::put(tasks, "0").context("write 0 to tasks")
}
