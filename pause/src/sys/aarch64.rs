//! aarch64: the entry point, the system call, and what the compiler expects of a C library.

use core::arch::{asm, naked_asm};
use core::ffi::{c_char, c_int, c_void};

/// System call numbers, from include/uapi/asm-generic/unistd.h.
pub mod nr {
    pub const IOCTL: usize = 29;
    pub const CHDIR: usize = 49;
    pub const OPENAT: usize = 56;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PPOLL: usize = 73;
    pub const EXIT_GROUP: usize = 94;
    pub const SETITIMER: usize = 103;
    pub const KILL: usize = 129;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const RT_SIGQUEUEINFO: usize = 138;
    pub const SETPGID: usize = 154;
    pub const GETPGID: usize = 155;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MADVISE: usize = 233;
    pub const WAIT4: usize = 260;
    pub const CLOSE_RANGE: usize = 436;
}

/// Makes a system call; an error is a negative errno.
///
/// # Safety
/// As the call and its arguments are.
#[inline(always)]
pub unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let result;
    // SAFETY: the kernel changes x0, and the memory that the caller answers for.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, options(nostack));
    }
    result
}

/// Where the kernel begins: the argument count is at the top of the stack. What pause puts there begins on a page of
/// its own, see `Start::forget`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn pause_start() -> ! {
    naked_asm!("mov x0, sp", "and sp, x0, #0xfffffffffffff000", "bl {begin}", "brk 1", begin = sym super::begin)
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, count: usize) -> *mut c_void {
    naked_asm!(
        "mov x3, x0",
        "2: cbz x2, 3f",
        "ldrb w4, [x1], #1",
        "strb w4, [x3], #1",
        "sub x2, x2, #1",
        "b 2b",
        "3: ret",
    )
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut c_void, byte: c_int, count: usize) -> *mut c_void {
    naked_asm!("mov x3, x0", "2: cbz x2, 3f", "strb w1, [x3], #1", "sub x2, x2, #1", "b 2b", "3: ret")
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
    naked_asm!(
        "mov x3, x0",
        "mov w0, #0",
        "2: cbz x2, 3f",
        "ldrb w4, [x3], #1",
        "ldrb w5, [x1], #1",
        "sub x2, x2, #1",
        "subs w0, w4, w5",
        "b.eq 2b",
        "3: ret",
    )
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const c_void, other: *const c_void, count: usize) -> c_int {
    naked_asm!("b {memcmp}", memcmp = sym memcmp)
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    naked_asm!("mov x1, x0", "2: ldrb w2, [x1], #1", "cbnz w2, 2b", "sub x0, x1, x0", "sub x0, x0, #1", "ret")
}
