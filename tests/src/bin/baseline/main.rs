//! `baseline`: how fast "run /bin/true in the default OCI container" can be on this kernel.
//!
//! A straight line of the kernel calls that `runc spec`'s config demands, and nothing else: no JSON, no
//! state, no checks that could be left out. `make bench` divides every runtime's time by this one's.
//! Left out is also what runtimes do beyond the config (loopback up, a session keyring).
//!
//!     baseline ROOTFS NAME v1|v2 [PROGRAM ARGS...]
//!
//! `BASELINE_SPLIT=1` prints how long each stage took; the stages of the container begin with `c:` and
//! run beside the host's. A failing call ends it with code 99 and the call's name.

mod cgroup;
mod container;
mod sys;

use std::ffi::{CStr, CString};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::time::Instant;

use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};

/// A stopwatch that prints the time since its last lap, or nothing at all.
struct Laps {
    last: Option<Instant>,
}

impl Laps {
    fn new() -> Laps {
        Laps { last: std::env::var_os("BASELINE_SPLIT").map(|_| Instant::now()) }
    }

    fn lap(&mut self, stage: &str) {
        if let Some(last) = &mut self.last {
            // One write, or the container's lines get in between.
            let line = format!("{stage:<12} {:8} us\n", last.elapsed().as_micros());
            let _ = std::io::stderr().write_all(line.as_bytes());
            *last = Instant::now();
        }
    }
}

/// Ends the program when a call that the container can't do without has failed.
fn must<T>(call: &str, result: nix::Result<T>) -> T {
    result.unwrap_or_else(|errno| {
        eprintln!("baseline: {call}: {errno}");
        std::process::exit(99)
    })
}

fn main() -> ExitCode {
    let args: Vec<CString> = std::env::args_os()
        .skip(1)
        .map(|arg| CString::new(arg.into_vec()).expect("argv has no NUL"))
        .collect();
    let [root, name, layout, program @ ..] = args.as_slice() else {
        eprintln!("usage: baseline ROOTFS NAME v1|v2 [PROGRAM ARGS...]");
        return ExitCode::from(2);
    };
    let v2 = match layout.to_bytes() {
        b"v1" => false,
        b"v2" => true,
        _ => {
            eprintln!("baseline: the cgroup layout is v1 or v2");
            return ExitCode::from(2);
        }
    };
    let program: Vec<&CStr> =
        if program.is_empty() { vec![c"/bin/true"] } else { program.iter().map(CString::as_c_str).collect() };
    run(root, name.to_str().expect("the name is UTF-8"), v2, &program)
}

fn run(root: &CStr, name: &str, v2: bool, program: &[&CStr]) -> ExitCode {
    let mut laps = Laps::new();
    let groups = if v2 { cgroup::create_v2(name) } else { cgroup::create_v1(name) };
    laps.lap("cgroup");

    let mut flags = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNS;
    let mut into = None;
    if v2 {
        let dir = cgroup::open(&groups[0]);
        cgroup::limit_devices_v2(dir.as_fd());
        laps.lap("devices");
        // Rooted in the group that it clones into (Linux 5.7, cgroup_post_fork), so no unshare later.
        flags |= CloneFlags::CLONE_NEWCGROUP;
        into = Some(dir);
    }
    let Some(child) = must("clone3", sys::clone3(flags, into.as_ref().map(AsFd::as_fd))) else {
        container::play(root, v2, &groups, program, Laps::new());
    };

    let status = must("wait", waitpid(child, None));
    laps.lap("child");
    cgroup::remove(&groups);
    laps.lap("rmdir");
    match status {
        WaitStatus::Exited(_, code) => ExitCode::from(code as u8),
        WaitStatus::Signaled(_, signal, _) => ExitCode::from(128 + signal as u8),
        _ => ExitCode::from(99),
    }
}
