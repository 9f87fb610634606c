//! bpf(2), as far as device programs need it.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups above keep running, too; all of them have to allow.
const ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` that loading reads; the kernel takes what is left out as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Why a program was not loaded.
#[derive(Debug)]
pub struct Refused {
    /// What the call gave.
    pub errno: Errno,
    /// The verifier's own words, empty when it had none.
    pub verifier: String,
}

/// Loads a program of type CGROUP_DEVICE, one instruction a word.
///
/// # Errors
/// EPERM without CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN); EINVAL or EACCES with the verifier's words.
pub fn load_device_program(program: &[u64]) -> Result<OwnedFd, Refused> {
    load(program, &mut []).or_else(|errno| {
        // Asking for the log makes loading slower, so only a refused program is loaded with it.
        let mut log = vec![0; 16 * 1024];
        load(program, &mut log).map_err(|again| {
            let text =
                String::from_utf8_lossy(log.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
            let last = text.lines().rev().find(|l| !l.is_empty() && !l.starts_with("processed "));
            Refused {
                errno: if again == Errno::ENOSPC { errno } else { again },
                verifier: last.unwrap_or_default().to_owned(),
            }
        })
    })
}

fn load(program: &[u64], log: &mut [u8]) -> nix::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        ..LoadAttr::default()
    };
    // SAFETY: the addresses in `attr` are those of `program`, `license` and `log`, which outlive the call and are as
    // long as their counts say; the kernel writes to `log` only, and that is borrowed mutably.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) };
    // SAFETY: a non-negative answer is a descriptor that this call made (close-on-exec) and nobody else owns.
    Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Hangs a loaded program on a v2 cgroup's directory, beside those that are there.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_BPF, or when a cgroup above forbids programs below it.
pub fn attach_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> nix::Result<()> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: `attr` is alive during the call, which reads as many bytes of it as it is told and keeps nothing.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) };
    Errno::result(done).map(drop)
}
