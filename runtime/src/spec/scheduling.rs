//! config.md#linux-process and config-linux.md: on which processors a process runs, when, and where its memory lies.

use serde::Deserialize;

use super::{Str, null_is_empty};

document! {
    /// sched_setattr(2). Runtime, deadline and period in nanoseconds.
    Scheduler {
        policy: Str<'a>,
        nice: i32,
        priority: i32,
        flags: Vec<Str<'a>>,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    /// ioprio_set(2)
    IoPriority { class: Str<'a>, priority: i32 }

    /// Lists of processors, as `0-3,7`.
    ExecCpuAffinity {
        initial: Str<'a>,
        #[serde(rename = "final")]
        last: Str<'a>,
    }

    /// set_mempolicy(2)
    MemoryPolicy { mode: Str<'a>, nodes: Str<'a>, flags: Vec<Str<'a>> }

    /// personality(2)
    Personality { domain: Str<'a>, flags: Vec<Str<'a>> }
}
