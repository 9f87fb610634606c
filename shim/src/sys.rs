//! What neither std nor nix can do. The only place of the shim where `unsafe` is allowed.
#![allow(unsafe_code)]

pub mod mounts;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that can be waited for.
///
/// # Errors
/// It is of a kind that epoll refuses, such as a file.
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always gives the same descriptor, which is open as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Sends a signal by its number. (nix knows no real-time signals.)
///
/// # Errors
/// No such process, or no such signal.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets a process's group, and what it starts, share a core's threads with nobody else (Linux 5.14,
/// Documentation/admin-guide/hw-vuln/core-scheduling.rst).
///
/// # Errors
/// EINVAL of a kernel without it; ENODEV of a machine without such threads.
pub fn share_core(group: u32) -> io::Result<()> {
    const OF_THE_GROUP: libc::c_ulong = 2;
    let group = libc::c_ulong::from(group);
    // SAFETY: prctl(2) with PR_SCHED_CORE_CREATE touches no memory of ours.
    match unsafe { libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, group, OF_THE_GROUP, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets a terminal's size in characters.
///
/// # Errors
/// The descriptor is no terminal.
pub fn resize(terminal: impl AsFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
    match unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A terminal's width and height in characters. None: it is none.
pub fn window_size(terminal: impl AsFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize, which outlives the call.
    let answer = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (answer == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// Receives the descriptor that a runtime sends through its console socket.
///
/// # Errors
/// No message is there, or one without a descriptor.
pub fn receive_descriptor(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut data = [0; 4096];
    let mut parts = [io::IoSliceMut::new(&mut data)];
    let mut space = cmsg_space!([RawFd; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    received.into_iter().next().ok_or_else(|| io::Error::other("a message without a descriptor"))
}

/// Gives a command three descriptors, as 3, 4 and 5. They must stay open until it is spawned.
pub fn pass(command: &mut Command, fds: [&OwnedFd; 3]) {
    let given = fds.map(AsRawFd::as_raw_fd);
    let place = move || {
        let mut copies = [0; 3];
        for (copy, fd) in copies.iter_mut().zip(given) {
            // Out of the way first: one may lie where another goes.
            // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC touches no memory of ours.
            *copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 6) };
        }
        for (copy, number) in copies.into_iter().zip(3..) {
            // The copy is of no use under its own number; dup2 clears close-on-exec.
            // SAFETY: dup2(2) touches no memory of ours.
            if unsafe { libc::dup2(copy, number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(place) };
}
