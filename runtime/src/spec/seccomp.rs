//! config-linux.md#seccomp

use serde::Deserialize;

use super::{Str, null_is_empty};

document! {
    /// What each system call of the payload gets.
    Seccomp {
        default_action: Str<'a>,
        default_errno_ret: Option<u32>,
        architectures: Vec<Str<'a>>,
        /// Missing is not the same as empty: runc then takes a default of its own.
        flags: Option<Vec<Str<'a>>>,
        listener_path: Str<'a>,
        listener_metadata: Str<'a>,
        syscalls: Vec<SyscallRule<'a>>,
    }

    SyscallRule {
        names: Vec<Str<'a>>,
        action: Str<'a>,
        errno_ret: Option<u32>,
        args: Vec<ArgumentTest<'a>>,
    }

    ArgumentTest { index: u32, value: u64, value_two: u64, op: Str<'a> }
}
