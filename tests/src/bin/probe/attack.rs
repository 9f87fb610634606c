//! Commands of a hostile payload: each tries known ways out of a container, and reports what the kernel answered.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::{Answer, errno, say, sys};

const NOTHING: Option<&str> = None;

/// `overwrite PATH`: takes hold of a running program's file, waits for the end of its last process, and then tries
/// every way to get a descriptor to write to it by; tells what each was answered. Nothing is written.
pub(crate) fn overwrite(args: &[String]) -> Answer {
    let held = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&args[0]).map_err(errno)?;
    say(&json!("holding"));
    let path = &*format!("/proc/self/fd/{}", held.as_raw_fd());
    let c = CString::new(path).map_err(|_| Errno::EINVAL)?;
    let open = |path: &str| OpenOptions::new().write(true).open(path).map(drop).map_err(errno);
    // What runs can't be written to, whoever asks.
    while open(path) == Err(Errno::ETXTBSY) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let then = |done: Result<(), Errno>, path: &str| done.and_then(|()| open(path));
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let copied = || {
        let copy = format!("/proc/self/fd/{}", sys::copy_mount(&c)?);
        sys::make_mount_writable(&CString::new(copy.clone()).map_err(|_| Errno::EINVAL)?)?;
        open(&copy)
    };
    let bound = || {
        let target = "/tmp/bound";
        std::fs::write(target, "").map_err(errno)?;
        mount(Some(path), target, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        mount(NOTHING, target, NOTHING, remount, NOTHING)?;
        open(target)
    };
    let ways = [
        ("open", open(path)),
        ("remount", then(mount(NOTHING, path, NOTHING, remount, NOTHING), path)),
        ("setattr", then(sys::make_mount_writable(&c), path)),
        ("copy", copied()),
        ("bind", bound()),
    ];
    let said =
        |answer: Result<(), Errno>| answer.map_or_else(|e| format!("{e:?}"), |()| "writable".to_owned());
    Ok(Value::Object(ways.into_iter().map(|(way, answer)| (way.to_owned(), json!(said(answer)))).collect()))
}

/// `unmasked DIR`: makes namespaces of its own in a new user namespace, and there mounts a procfs and a sysfs on DIR, which
/// the kernel allows to whoever can find a whole one already; tells what each was answered.
pub(crate) fn unmasked(args: &[String]) -> Answer {
    let new = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    unshare(new)?;
    let kinds = ["proc", "sysfs"];
    let tried = sys::in_a_child(|| {
        let each = kinds.map(|kind| mount(Some(kind), &*args[0], Some(kind), MsFlags::empty(), NOTHING));
        each.iter().enumerate().map(|(n, done)| i32::from(done.is_ok()) << n).sum()
    })?;
    Ok(json!(
        kinds.iter().enumerate().filter(|(n, _)| tried >> n & 1 == 1).map(|(_, k)| k).collect::<Vec<_>>()
    ))
}
