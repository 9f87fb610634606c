//! The system calls that pause needs, each safe to make from outside. The only place of unsafe code.

#![allow(unsafe_code)]

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod arch;
mod start;

use ampoule_pause::signals::{Set, Signal};
use arch::{call, nr};
use core::ptr;
pub use start::{Start, Text};

/// Why a system call failed, as errno(3) numbers it.
pub type Errno = i32;

/// No such file or directory.
pub const ENOENT: Errno = 2;
/// Interrupted, by being stopped and continued or by a tracer.
pub const EINTR: Errno = 4;
/// Not a format that the kernel executes.
pub const ENOEXEC: Errno = 8;
/// Permission denied.
pub const EACCES: Errno = 13;
/// Not a directory.
pub const ENOTDIR: Errno = 20;

/// The outcome of a system call. Two halves of one size travel in registers.
pub type Outcome = Result<i32, Errno>;

fn check(result: isize) -> Outcome {
    if result < 0 { Err(-result as Errno) } else { Ok(result as i32) }
}

/// Where Rust begins.
extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: the entry point hands over the stack pointer that the kernel set, once.
    exit(crate::main(unsafe { Start::new(stack) }))
}

/// Ends the process.
pub fn exit(code: u8) -> ! {
    loop {
        // SAFETY: nothing happens after it.
        unsafe { call(nr::EXIT_GROUP, code.into(), 0, 0, 0, 0) };
    }
}

/// Writes a text, at once or not at all: PID 1 must not hang on a full pipe.
pub fn write(descriptor: usize, text: &[u8]) {
    const POLLOUT: u64 = 4;
    let mut poll = descriptor as u64 | POLLOUT << 32;
    let no_time = [0u64; 2];
    // SAFETY: one `struct pollfd`, of a little-endian machine, and a text.
    unsafe {
        if call(nr::PPOLL, &raw mut poll as usize, 1, no_time.as_ptr() as usize, 0, 0) == 1 {
            call(nr::WRITE, descriptor, text.as_ptr() as usize, text.len(), 0, 0);
        }
    }
}

/// Blocks exactly these signals; returns those that were blocked before.
pub fn block(signals: Set) -> Set {
    const SIG_SETMASK: usize = 2;
    let mut before = Set::NONE;
    // SAFETY: both sets have the kernel's layout.
    unsafe {
        call(nr::RT_SIGPROCMASK, SIG_SETMASK, &raw const signals as usize, &raw mut before as usize, 8, 0)
    };
    before
}

/// The kernel's `struct sigaction`.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: Set,
}

/// Gives a signal its default action, and SIGCHLD no notice of children that merely stop. Returns 1 if it was
/// ignored before, which for SIGCHLD means that no child leaves its exit code.
pub fn default_action(signal: Signal) -> Outcome {
    const SA_NOCLDSTOP: usize = 1;
    set_action(signal, Action { handler: 0, flags: SA_NOCLDSTOP, restorer: 0, mask: Set::NONE })
}

/// Ignores a signal.
pub fn ignore(signal: Signal) -> Outcome {
    set_action(signal, Action { handler: 1, flags: 0, restorer: 0, mask: Set::NONE })
}

fn set_action(signal: Signal, action: Action) -> Outcome {
    let mut before = Action { handler: 0, flags: 0, restorer: 0, mask: Set::NONE };
    // SAFETY: both actions have the kernel's layout, and neither runs any code.
    let result = unsafe {
        let (new, old) = (&raw const action as usize, &raw mut before as usize);
        call(nr::RT_SIGACTION, signal as usize, new, old, 8, 0)
    };
    check(result).map(|_| i32::from(before.handler == 1))
}

/// What the kernel tells of a signal: `siginfo_t`.
#[repr(C)]
pub struct Received {
    signal: Signal,
    errno: i32,
    /// Where it comes from: 0 or less from a process, else from the kernel.
    pub code: i32,
    padding: i32,
    /// Who sent it, if a process did; 0 when that one is in an outer namespace.
    pub sender: i32,
    rest: [u32; 27],
}

impl Received {
    /// `code` of a signal that sigqueue(3) sent, with a value.
    pub const QUEUED: i32 = -1;

    /// Room for one.
    pub fn new() -> Self {
        Self { signal: 0, errno: 0, code: 0, padding: 0, sender: 0, rest: [0; 27] }
    }
}

/// Takes one of these (blocked) signals, the lowest first; returns its number. Waits for it, unless told otherwise.
pub fn take_signal(signals: Set, wait: bool, received: Option<&mut Received>) -> Outcome {
    let no_time = [0u64; 2];
    let timeout = if wait { ptr::null() } else { no_time.as_ptr() };
    let received = received.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: `Received` is as large as the kernel's siginfo_t: 128 bytes.
    check(unsafe {
        let set = &raw const signals as usize;
        call(nr::RT_SIGTIMEDWAIT, set, received as usize, timeout as usize, 8, 0)
    })
}

/// Sends a signal to a process, to a group (negative), or to every process in sight (-1).
pub fn kill(target: i32, signal: Signal) -> Outcome {
    // SAFETY: no memory is concerned.
    check(unsafe { call(nr::KILL, target as usize, signal as usize, 0, 0, 0) })
}

/// Sends a process a signal on, with its value and its sender.
pub fn queue(process: i32, signal: Signal, received: &Received) -> Outcome {
    // SAFETY: the kernel reads its own siginfo_t.
    check(unsafe {
        call(nr::RT_SIGQUEUEINFO, process as usize, signal as usize, received as *const _ as usize, 0, 0)
    })
}

/// Has the kernel send SIGALRM after so many seconds, which are not 0.
pub fn alarm(seconds: u32) {
    let timer = [0, 0, u64::from(seconds), 0];
    // SAFETY: a `struct itimerval`: no interval, then seconds and microseconds; ITIMER_REAL is 0.
    unsafe { call(nr::SETITIMER, 0, timer.as_ptr() as usize, 0, 0, 0) };
}

/// Takes a child that has ended; returns its pid, or 0 when none has.
pub fn reap(status: &mut u32) -> Outcome {
    const WNOHANG: usize = 1;
    // SAFETY: the status is an int.
    check(unsafe { call(nr::WAIT4, usize::MAX, status as *mut u32 as usize, WNOHANG, 0, 0) })
}

/// Forks: 0 in the child, its pid in the parent.
pub fn fork() -> Outcome {
    const SIGCHLD: usize = 17;
    // SAFETY: nothing is shared, and there is one thread.
    check(unsafe { call(nr::CLONE, SIGCHLD, 0, 0, 0, 0) })
}

/// The own pid.
pub fn pid() -> i32 {
    // SAFETY: no memory is concerned.
    unsafe { call(nr::GETPID, 0, 0, 0, 0, 0) as i32 }
}

/// The parent's pid.
pub fn parent() -> u32 {
    // SAFETY: no memory is concerned.
    unsafe { call(nr::GETPPID, 0, 0, 0, 0, 0) as u32 }
}

/// The own process group.
pub fn group() -> i32 {
    // SAFETY: no memory is concerned.
    unsafe { call(nr::GETPGID, 0, 0, 0, 0, 0) as i32 }
}

/// Makes a process (0: this one) the leader of a new group.
pub fn lead_group(process: i32) -> Outcome {
    // SAFETY: no memory is concerned.
    check(unsafe { call(nr::SETPGID, process as usize, 0, 0, 0, 0) })
}

/// The foreground group of the terminal on stdin.
pub fn foreground() -> Outcome {
    const TIOCGPGRP: usize = 0x540f;
    let mut group = 0i32;
    // SAFETY: the kernel writes one pid_t.
    check(unsafe { call(nr::IOCTL, 0, TIOCGPGRP, &raw mut group as usize, 0, 0) }).map(|_| group)
}

/// Makes a group the foreground of the terminal on stdin. SIGTTOU must be blocked.
pub fn set_foreground(group: i32) -> Outcome {
    const TIOCSPGRP: usize = 0x5410;
    // SAFETY: the kernel reads one pid_t.
    check(unsafe { call(nr::IOCTL, 0, TIOCSPGRP, &raw const group as usize, 0, 0) })
}

/// Asks for a signal when the parent ends. It fails for no signal.
pub fn set_parent_death(signal: Signal) {
    const PR_SET_PDEATHSIG: usize = 1;
    // SAFETY: no memory is concerned.
    unsafe { call(nr::PRCTL, PR_SET_PDEATHSIG, signal as usize, 0, 0, 0) };
}

/// Makes orphans among the descendants children of this process, on every kernel since 3.4.
pub fn become_subreaper() {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // SAFETY: no memory is concerned.
    unsafe { call(nr::PRCTL, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Whether orphans come here, though it is not PID 1.
pub fn is_subreaper() -> bool {
    const PR_GET_CHILD_SUBREAPER: usize = 37;
    let mut answer = 0i32;
    // SAFETY: the kernel writes one int.
    unsafe { call(nr::PRCTL, PR_GET_CHILD_SUBREAPER, &raw mut answer as usize, 0, 0, 0) };
    answer != 0
}

/// Lets go of the working directory, which would pin its mount.
pub fn leave_directory() {
    // SAFETY: a terminated path.
    unsafe { call(nr::CHDIR, Text::of(c"/").address(), 0, 0, 0, 0) };
}

/// Closes every descriptor from `first` to `last`. A kernel before 5.9 can't: they stay open, as tini leaves them.
pub fn close(first: usize, last: usize) {
    // SAFETY: no descriptor is owned by any value of this program.
    unsafe { call(nr::CLOSE_RANGE, first, last, 0, 0, 0) };
}

/// Opens a file to read.
pub fn open(path: Text) -> Outcome {
    const AT_FDCWD: usize = -100isize as usize;
    const O_CLOEXEC: usize = 0o2000000;
    // SAFETY: a terminated path.
    check(unsafe { call(nr::OPENAT, AT_FDCWD, path.address(), O_CLOEXEC, 0, 0) })
}

/// Reads from a descriptor; nothing at the end or at an error.
pub fn read(descriptor: i32, room: &mut [u8]) -> &[u8] {
    // SAFETY: the kernel writes into the room only.
    let count = unsafe { call(nr::READ, descriptor as usize, room.as_mut_ptr() as usize, room.len(), 0, 0) };
    room.get(..count.max(0) as usize).unwrap_or_default()
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(134)
}
