//! System calls that no library wraps safely.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;

/// Rows and columns of the terminal on stdin; (0, 0) when there is none.
pub(crate) fn window_size() -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, and `size` lives across the call.
    match Errno::result(unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) }) {
        Ok(_) => Ok((size.ws_row, size.ws_col)),
        Err(Errno::ENOTTY) => Ok((0, 0)),
        Err(errno) => Err(errno),
    }
}

/// Clears MOUNT_ATTR_RDONLY of the mount that `path` lies on.
pub(crate) fn make_mount_writable(path: &std::ffi::CStr) -> Result<(), Errno> {
    let attr =
        libc::mount_attr { attr_set: 0, attr_clr: libc::MOUNT_ATTR_RDONLY, propagation: 0, userns_fd: 0 };
    let size = size_of_val(&attr);
    // SAFETY: a C string and a struct of the size that is told; both outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), 0, &raw const attr, size)
    };
    Errno::result(done).map(drop)
}

/// A copy of the mount that `path` lies on, as a descriptor that is never closed.
pub(crate) fn copy_mount(path: &std::ffi::CStr) -> Result<i64, Errno> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    // SAFETY: a C string that outlives the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), OPEN_TREE_CLONE)
    })
}

/// Any system call. The tests make only ones that take no pointers, or that a filter answers.
pub(crate) fn system_call(number: u64, args: [u64; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: what the kernel may write to is what the caller's numbers point to: nothing of ours.
    Errno::result(unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) })
}

/// A system call of i386 without arguments, where this processor has a gate for it.
pub(crate) fn system_call_32(number: u32) -> Result<i32, Errno> {
    #[cfg(target_arch = "x86_64")]
    {
        let result: i32;
        // SAFETY: the gate changes no register but the result's and those named (arch/x86/entry/entry_64_compat.S).
        unsafe {
            std::arch::asm!(
                "int 0x80",
                inlateout("eax") number as i32 => result,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        if (-4095..0).contains(&result) { Err(Errno::from_raw(-result)) } else { Ok(result) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = number;
        Err(Errno::ENOSYS)
    }
}

/// Maps this many huge pages of 2 MiB and writes to each.
pub(crate) fn touch_huge_pages(count: usize) -> Result<(), Errno> {
    const SIZE: usize = 2 << 20;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: without MAP_FIXED the kernel finds a place that nothing else has.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), count * SIZE, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    for page in 0..count {
        // SAFETY: the mapping is `count` pages long, writable, and never unmapped.
        unsafe { start.cast::<u8>().add(page * SIZE).write_volatile(1) };
    }
    Ok(())
}

/// Makes an orphan: a child's child, which ends at once.
pub(crate) fn make_orphan() -> Result<(), Errno> {
    // SAFETY: the probe has one thread; the children make two system calls and end.
    unsafe {
        match Errno::result(libc::fork())? {
            0 => {
                // A limit that is hit shows as an orphan too few.
                let failed = libc::fork() < 0;
                libc::_exit(i32::from(failed))
            }
            child => {
                let mut status = 0;
                Errno::result(libc::waitpid(child, &raw mut status, 0))?;
                if status == 0 { Ok(()) } else { Err(Errno::EAGAIN) }
            }
        }
    }
}

/// Makes an orphan: a child's child, which tells its new parent's pid once it has one.
pub(crate) fn parent_of_an_orphan() -> Result<i32, Errno> {
    let mut pipe = [0; 2];
    let mut parent = 0i32;
    // SAFETY: the probe has one thread; the children make system calls and end. What is written and read has the size
    // that is told.
    unsafe {
        Errno::result(libc::pipe(pipe.as_mut_ptr()))?;
        let child = Errno::result(libc::fork())?;
        if child == 0 {
            let own = libc::getpid();
            if libc::fork() == 0 {
                while libc::getppid() == own {
                    libc::usleep(1000);
                }
                let new = libc::getppid();
                libc::write(pipe[1], (&raw const new).cast(), size_of::<i32>());
            }
            libc::_exit(0);
        }
        Errno::result(libc::waitpid(child, std::ptr::null_mut(), 0))?;
        Errno::result(libc::read(pipe[0], (&raw mut parent).cast(), size_of::<i32>()))?;
    }
    Ok(parent)
}

fn all_signals() -> libc::sigset_t {
    // SAFETY: sigfillset initialises the set. (nix's leaves the real-time signals out.)
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

/// Blocks every signal, the real-time ones too.
pub(crate) fn block_all() {
    // SAFETY: a set that outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &all_signals(), std::ptr::null_mut()) };
}

/// Waits for signal 40; returns the value that came with it.
pub(crate) fn wait_for_queued() -> Result<i32, Errno> {
    // SAFETY: the sets and the siginfo outlive the calls; a signal of sigqueue has a value.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, 40);
        let mut info = std::mem::zeroed();
        Errno::result(libc::sigwaitinfo(&raw const set, &raw mut info))?;
        Ok(info.si_value().sival_ptr as usize as i32)
    }
}

/// Makes a process that lives on in its child, and that in its, and so on for a minute or more, a millisecond each.
pub(crate) fn make_line() -> Result<(), Errno> {
    // SAFETY: this process has one thread; and what a child calls, fork, usleep and _exit, is async-signal-safe.
    unsafe {
        if Errno::result(libc::fork())? == 0 {
            for _ in 0..50_000 {
                match libc::fork() {
                    0 => _ = libc::usleep(1000),
                    _ => libc::_exit(0),
                }
            }
            libc::_exit(0)
        }
    }
    Ok(())
}

/// What a function says in a child of its own, which ends then.
pub(crate) fn in_a_child(say: impl FnOnce() -> i32) -> Result<i32, Errno> {
    // SAFETY: there is one thread, so the child may do whatever this process may.
    match unsafe { nix::unistd::fork()? } {
        nix::unistd::ForkResult::Child => {
            let said = say();
            // SAFETY: touches no memory.
            unsafe { libc::_exit(said) }
        }
        nix::unistd::ForkResult::Parent { child } => match nix::sys::wait::waitpid(child, None)? {
            nix::sys::wait::WaitStatus::Exited(_, said) => Ok(said),
            _ => Err(Errno::ECHILD),
        },
    }
}
