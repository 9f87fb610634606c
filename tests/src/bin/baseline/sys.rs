//! The kernel calls that have no safe wrapper: clone3, bpf, capset.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{BPF_JMP, BPF_K, BPF_MEM, BPF_W, c_long};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// Linux 5.7; libc has it for glibc only.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones this process into new namespaces, and into a v2 cgroup when one is given. None in the child.
pub(crate) fn clone3(flags: CloneFlags, into: Option<BorrowedFd<'_>>) -> nix::Result<Option<Pid>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero means "not asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (flags.bits() | libc::CLONE_PIDFD) as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork, and the program has one thread, so the child's copy of
    // memory has no lock held by a thread that is gone. `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    // The pidfd stays open until the end, as a runtime's would.
    Ok(match Errno::result(pid)? {
        0 => None,
        pid => Some(Pid::from_raw(pid as i32)),
    })
}

/// One BPF instruction, `struct bpf_insn`.
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

fn op(code: u32, into: u8, from: u8, offset: i16, value: u32) -> Instruction {
    Instruction { code: code as u8, registers: from << 4 | into, offset, value: value as i32 }
}

const LDX: u32 = 0x01;
const ALU: u32 = 0x04;
const ALU64: u32 = 0x07;
const AND: u32 = 0x50;
const RSH: u32 = 0x70;
const MOV: u32 = 0xb0;
const JNE: u32 = 0x50;
const EXIT: u32 = 0x90;
const DEVCG_MKNOD: u32 = 1;
const DEVCG_CHAR: u32 = 2;

/// The program that allows mknod of anything and any use of the given character devices.
pub(crate) fn device_program(devices: &[(u32, Option<u32>)]) -> Vec<Instruction> {
    let answer = |allow| [op(ALU64 | MOV | BPF_K, 0, 0, 0, allow), op(BPF_JMP | EXIT, 0, 0, 0, 0)];
    // r1 points to struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    let mut program = vec![
        op(LDX | BPF_MEM | BPF_W, 2, 1, 0, 0),
        op(ALU | AND | BPF_K, 2, 0, 0, 0xffff),
        op(LDX | BPF_MEM | BPF_W, 3, 1, 0, 0),
        op(ALU | RSH | BPF_K, 3, 0, 0, 16),
        op(LDX | BPF_MEM | BPF_W, 4, 1, 4, 0),
        op(LDX | BPF_MEM | BPF_W, 5, 1, 8, 0),
        op(BPF_JMP | JNE | BPF_K, 3, 0, 2, DEVCG_MKNOD),
    ];
    program.extend(answer(1));
    for &(major, minor) in devices {
        let rest = if minor.is_some() { 4 } else { 3 };
        program.push(op(BPF_JMP | JNE | BPF_K, 2, 0, rest, DEVCG_CHAR));
        program.push(op(BPF_JMP | JNE | BPF_K, 4, 0, rest - 1, major));
        if let Some(minor) = minor {
            program.push(op(BPF_JMP | JNE | BPF_K, 5, 0, 2, minor));
        }
        program.extend(answer(1));
    }
    program.extend(answer(0));
    program
}

/// The start of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes the fields it isn't given as zero.
#[repr(C)]
struct LoadArgs {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The start of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachArgs {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// Has the kernel verify a device program.
pub(crate) fn load(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let args = LoadArgs {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
    };
    // SAFETY: the kernel reads `size` bytes of `args`, `count` instructions and the license up to its NUL;
    // all three outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &args, size_of::<LoadArgs>()) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Puts a loaded program on a cgroup.
pub(crate) fn attach(program: &OwnedFd, cgroup: BorrowedFd<'_>) -> nix::Result<()> {
    let args = AttachArgs {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `size` bytes of `args`, which outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &args, size_of::<AttachArgs>()) };
    Errno::result(done).map(drop)
}

/// CAP_KILL, CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE.
const DEFAULT_CAPABILITIES: u32 = 1 << 5 | 1 << 10 | 1 << 29;
const LAST_CAPABILITY: u32 = 40;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Leaves the default config's three capabilities in the bounding, effective and permitted sets.
pub(crate) fn keep_default_capabilities() -> nix::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|c| *c >= 32 || DEFAULT_CAPABILITIES & 1 << c == 0) {
        // SAFETY: prctl takes integers here. An unknown capability is an error to ignore.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    let header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable; low half, then high half.
    let sets = [DEFAULT_CAPABILITIES, DEFAULT_CAPABILITIES, 0, 0, 0, 0];
    // SAFETY: the kernel reads a header of two words and, in version 3, two sets of three; both outlive it.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(done).map(drop)
}
