//! On the host: the id maps of a new user namespace (user_namespaces(7)).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, read};

use crate::plan::step::{IdRange, Mapper};
use crate::sys::clone::{Fork, clone3};
use crate::sys::kernfs;
use crate::sys::process::exit_now;

/// Maps the ids of the process's namespace. Each map can be written once, in one write.
///
/// # Errors
/// Names the file or the helper, and what that said.
pub(super) fn write(pid: Pid, uids: &[IdRange], gids: &[IdRange], by: Mapper) -> Result<()> {
    if by == Mapper::Helpers {
        help("newuidmap", pid, uids)?;
        return help("newgidmap", pid, gids);
    }
    if by == Mapper::WithoutGroups {
        put(pid, "setgroups", "deny")?;
    }
    let lines = |ranges: &[IdRange]| ranges.iter().map(|r| format!("{r}\n")).collect::<String>();
    put(pid, "uid_map", &lines(uids))?;
    put(pid, "gid_map", &lines(gids))
}

/// A user namespace with this map, in which nobody is. It lives as long as its handle, or a mount that uses it.
///
/// # Errors
/// Names the call.
pub(super) fn namespace(uids: &[IdRange], gids: &[IdRange]) -> Result<OwnedFd> {
    let (wait, end) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    match clone3(CloneFlags::CLONE_NEWUSER.bits() as u32 as u64, None).context("clone3")? {
        Fork::Child => {
            drop(end);
            // It only has to be there; once nobody holds the other end, be it that the runtime was killed, it goes.
            let _ = read(&wait, &mut [0]);
            exit_now(0)
        }
        Fork::Parent { pid, .. } => {
            let path = format!("/proc/{pid}/ns/user");
            let made = write(pid, uids, gids, Mapper::Ourselves).and_then(|()| {
                open(&*path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                    .with_context(|| format!("open {path}"))
            });
            drop(end);
            waitpid(pid, None).context("waitpid")?;
            made
        }
    }
}

fn put(pid: Pid, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    kernfs::write(Path::new(&path), text).with_context(|| format!("write {path}"))
}

/// newuidmap(1), newgidmap(1): set-uid programs that look into /etc/subuid and /etc/subgid.
fn help(program: &str, pid: Pid, ranges: &[IdRange]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    command.args(ranges.iter().flat_map(|r| [r.inside, r.outside, r.size]).map(|n| n.to_string()));
    let output = command.output().map_err(|e| {
        anyhow!("run {program}: {e} (it is in the package uidmap; mapping only your own id needs no helper)")
    })?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
