//! On the host: devices that move into a container's network namespace (config-linux.md#network-devices).

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail};
use linux::rtnetlink::{Address, Route};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::fstat;
use nix::unistd::Pid;

/// Brings `lo` up in the network namespace of a process.
///
/// # Errors
/// Names the call.
pub(super) fn loopback_up(pid: Pid) -> Result<()> {
    let open = |whose: &str| {
        let path = format!("/proc/{whose}/ns/net");
        File::open(&path).with_context(|| format!("open {path}"))
    };
    let (own, theirs) = (open("self")?, open(&pid.to_string())?);
    setns(theirs, CloneFlags::CLONE_NEWNET).context("setns")?;
    let done = linux::net::loopback_up();
    setns(&own, CloneFlags::CLONE_NEWNET).context("setns back")?;
    done.context("SIOCSIFFLAGS")
}

/// Moves a device with its permanent addresses of global scope, and brings it up there.
///
/// # Errors
/// Names the call. What can't be set up there goes back.
pub(super) fn move_into(namespace: &OwnedFd, device: &str, name: Option<&str>) -> Result<()> {
    let own = File::open("/proc/self/ns/net").context("open /proc/self/ns/net")?;
    let (a, b) = (fstat(&own)?, fstat(namespace)?);
    if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino) {
        bail!("the container's network namespace is the host's own");
    }
    let here = Route::open().context("open a netlink socket")?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("setns")?;
    let there = Route::open();
    setns(&own, CloneFlags::CLONE_NEWNET).context("setns back")?;
    let there = there.context("open a netlink socket")?;

    let (index, up) = match here.find(device) {
        Err(Errno::ENODEV) => bail!("the host has no such device"),
        other => other.context("RTM_GETLINK")?,
    };
    if there.find(name.unwrap_or(device)).is_ok() {
        bail!("the name {} is taken there", name.unwrap_or(device));
    }
    let addresses = here.addresses(index).context("RTM_GETADDR")?;
    let new_index = free_index(&there, index)?;
    let moved = here.move_away(index, namespace.as_fd(), name, new_index).map_err(|e| match e {
        Errno::EINVAL => anyhow!("RTM_NEWLINK: {e} (some devices can't leave their namespace)"),
        e => anyhow!("RTM_NEWLINK: {e}"),
    });
    moved.and_then(|()| restore(&there, new_index, &addresses, true)).inspect_err(|_| {
        // The kernel moves first and renames then, so it may be there also when the request failed. That error is the
        // one to report.
        if there.move_away(new_index, own.as_fd(), Some(device), index).is_ok() {
            // As said above.
            let _ = restore(&here, index, &addresses, up);
        }
    })
}

/// What a device loses by moving.
fn restore(route: &Route, index: u32, addresses: &[Address], up: bool) -> Result<()> {
    for address in addresses {
        route.add_address(index, address).context("RTM_NEWADDR")?;
    }
    if up { route.set_up(index).context("RTM_NEWLINK: bring it up") } else { Ok(()) }
}

/// Its own index if it is free there, else the next one that is.
fn free_index(there: &Route, index: u32) -> Result<u32> {
    for candidate in index..=i32::MAX as u32 {
        match there.name_of(candidate) {
            Err(Errno::ENODEV) => return Ok(candidate),
            other => drop(other.context("RTM_GETLINK")?),
        }
    }
    bail!("no index is free there")
}
