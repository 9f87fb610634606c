//! i386's two old calls that are many: socketcall(2) and ipc(2). Their first argument says which one is meant.

use super::rule::{Condition, Operator};

/// Their numbers on i386.
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// The call through which `name` can be made as well, and the condition that it is the one meant (linux/net.h,
/// linux/ipc.h). What the arguments proper are stands in memory, where no filter can see it.
pub(super) fn through(name: &str) -> Option<(u32, Condition)> {
    let (call, value) = match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    };
    Some((call, Condition { argument: 0, operator: Operator::Equal, value, mask: u64::MAX }))
}

/// The conditions as libseccomp carries them over: the first argument is taken, the others are compared as they stand.
pub(super) fn carry_over(conditions: &[Condition], which: Condition) -> Vec<Condition> {
    conditions.iter().filter(|c| c.argument != 0).copied().chain([which]).collect()
}
