//! sched(7), numa(7), personality(2): how the kernel deals out processors, disks and memory to this process.

use nix::errno::Errno;

/// Restricts this thread, and those that it clones from now on, to the processors whose bits are set, sched_setaffinity(2).
pub fn run_on(cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: pointer and length (in bytes) describe `cpus`; the kernel only reads.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) };
    Errno::result(done).map(drop)
}

/// sched_setattr(2); `times` are runtime, deadline and period in nanoseconds.
pub fn set_scheduler(
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    times: [u64; 3],
) -> Result<(), Errno> {
    /// `struct sched_attr` of Linux 5.3, whose clamps are 0 here: the spec has no words for them.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        times: [u64; 3],
        clamps: [u32; 2],
    }
    let size = size_of::<Attributes>() as u32;
    let attributes = Attributes { size, policy, flags, nice, priority, times, clamps: [0; 2] };
    // SAFETY: a struct of the size that it tells, alive during the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(done).map(drop)
}

/// ioprio_set(2) for this thread: the class from bit 13 on, the priority below it.
pub fn set_io_priority(value: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    let done =
        unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, libc::c_int::from(value)) };
    Errno::result(done).map(drop)
}

/// set_mempolicy(2): MPOL_* with its flags, and a bit for each node.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel takes one from the number of bits before it looks (mm/mempolicy.c, get_nodes).
    let bits = nodes.len() * 64 + 1;
    // SAFETY: the mask is as long as it is told, rounded to words, and the kernel only reads.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    Errno::result(done).map(drop)
}

/// Whether the kernel takes this MPOL_* with its flags. Asked by doing it, and undone: for a process that ends soon.
pub fn takes_memory_policy(mode: u32) -> bool {
    const MPOL_F_MEMS_ALLOWED: u32 = 1 << 2;
    let mut allowed = [0u64; 16];
    let (bits, none) = (size_of_val(&allowed) * 8, std::ptr::null_mut::<libc::c_int>());
    // SAFETY: the mask is as long as it is told, in bits, and alive during the call; no mode is asked for.
    unsafe {
        libc::syscall(libc::SYS_get_mempolicy, none, allowed.as_mut_ptr(), bits, none, MPOL_F_MEMS_ALLOWED)
    };
    let takes = set_memory_policy(mode, &allowed).or_else(|_| set_memory_policy(mode, &[])).is_ok();
    // MPOL_DEFAULT is what a kernel without CONFIG_NUMA has, and it refuses to be told.
    takes && set_memory_policy(0, &[]).is_ok()
}

/// Sets this process's execution domain, personality(2).
pub fn set_personality(domain: u64) -> Result<(), Errno> {
    // SAFETY: an integer only.
    Errno::result(unsafe { libc::personality(domain as libc::c_ulong) }).map(drop)
}

/// Lets a process's group, and what it starts, share a core's threads with nobody else (Linux 5.14,
/// Documentation/admin-guide/hw-vuln/core-scheduling.rst).
///
/// # Errors
/// EINVAL of a kernel without it; ENODEV of a machine without such threads.
pub fn share_core(group: u32) -> Result<(), Errno> {
    const OF_THE_GROUP: libc::c_ulong = 2;
    let group = libc::c_ulong::from(group);
    // SAFETY: prctl(2) with PR_SCHED_CORE_CREATE touches no memory of ours.
    let done =
        unsafe { libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, group, OF_THE_GROUP, 0) };
    Errno::result(done).map(drop)
}
