//! In the new process: the steps by which the process becomes the container's program.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use linux::{process, scheduling};
use nix::errno::Errno;
use nix::sys::signal::{SigmaskHow, sigprocmask};
use nix::unistd::{chdir, getpid};

use super::super::procfs::Procfs;
use super::super::{credentials, program};
use super::{Init, RUNTIME_GONE, State};
use crate::container::{criu, gate};
use crate::plan::seccomp::Filter;
use crate::plan::step::{InitSync, PayloadStep, Scheduler};

impl Init<'_> {
    pub(super) fn payload(&self, state: &mut State, step: &PayloadStep) -> Result<()> {
        match step {
            PayloadStep::SetRlimit(limit) => {
                process::set_limit(0, limit.resource, limit.soft, limit.hard).context("setrlimit")
            }
            PayloadStep::SetApparmorProfile { profile } => confine(state.procfs()?, profile),
            PayloadStep::SetSelinuxLabel { label } => state.procfs()?.write_own(&["attr/exec"], label),
            PayloadStep::SetAffinity { cpus } => scheduling::run_on(&cpus.words).context("sched_setaffinity"),
            PayloadStep::SetPersonality { value, .. } => {
                scheduling::set_personality(*value).context("personality")
            }
            PayloadStep::SetMemoryPolicy(policy) => {
                scheduling::set_memory_policy(policy.mode, &policy.nodes.words).context("set_mempolicy")
            }
            PayloadStep::SetIoPriority { value, .. } => {
                scheduling::set_io_priority(*value).context("ioprio_set")
            }
            PayloadStep::SetScheduler(wanted) => schedule(wanted),
            PayloadStep::SetUmask { mask } => {
                process::set_umask(*mask);
                Ok(())
            }
            PayloadStep::CloseProcfs => {
                state.procfs = None;
                Ok(())
            }
            PayloadStep::Chdir { path } => {
                chdir(path.as_str()).context("chdir")?;
                inside_the_root()
            }
            PayloadStep::SetNoNewPrivs => nix::sys::prctl::set_no_new_privs().context("PR_SET_NO_NEW_PRIVS"),
            PayloadStep::SetCredentials(wanted) => credentials::take(wanted),
            PayloadStep::InstallSeccomp(filter) => self.install(state, filter),
            PayloadStep::CloseListener => {
                state.listener = None;
                Ok(())
            }
            PayloadStep::HomeFromPasswd { uid } => {
                state.env.push(format!("HOME={}", program::home(*uid)?));
                Ok(())
            }
            PayloadStep::SetListenPid => {
                state.env.push(format!("LISTEN_PID={}", getpid()));
                Ok(())
            }
            PayloadStep::SetCloseOnExec { from } => process::close_on_exec_from(*from).context("close_range"),
            PayloadStep::FindProgram { name, path } => {
                state.program = program::find(name, path)?;
                Ok(())
            }
            PayloadStep::Exec { args, env } => self.exec(state, args, env),
            PayloadStep::ExecCriu { program, socket, namespaces } => {
                let mut inherited = Vec::new();
                for slot in [socket].into_iter().chain(namespaces) {
                    inherited.push(state.handle(*slot)?);
                }
                let (args, env) = criu::command(program, &inherited)?;
                state.program = program.display().to_string();
                self.exec(state, &args, &env)
            }
        }
    }

    fn install(&self, state: &mut State, filter: &Filter) -> Result<()> {
        state.listener =
            linux::seccomp::install(&filter.program, filter.flags, filter.notify).context("seccomp")?;
        match &state.listener {
            // By its number: to send it along, profiles would have to let sendmsg(2) go without asking.
            Some(fd) => {
                let number = fd.as_raw_fd() as u32;
                self.channel.send_number(InitSync::SeccompListener, number).context(RUNTIME_GONE)
            }
            None => Ok(()),
        }
    }

    fn exec(&self, state: &mut State, args: &[String], env: &[String]) -> Result<()> {
        let env = [env, &state.env].concat();
        if let Some(stream) = &state.stream {
            gate::about_to_exec(stream).context(RUNTIME_GONE)?;
        }
        process::default_sigpipe();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.signals), None).context("sigprocmask")?;
        Err(program::exec(&state.program, args, &env))
    }
}

/// Its own directory is there since Linux 5.8, for the others may be another module's.
fn confine(procfs: &Procfs, profile: &str) -> Result<()> {
    let done = procfs.write_own(&["attr/apparmor/exec", "attr/exec"], &format!("exec {profile}"));
    done.map_err(|e| match e.downcast_ref() {
        Some(Errno::ENOENT) => {
            anyhow::anyhow!("{e:#} (no such profile is loaded: apparmor_parser(8) loads one)")
        }
        _ => e,
    })
}

fn schedule(wanted: &Scheduler) -> Result<()> {
    let Scheduler { policy, nice, priority, flags, runtime, deadline, period, .. } = *wanted;
    let times = [runtime, deadline, period];
    match scheduling::set_scheduler(policy, flags, nice, priority, times) {
        // sched(7), cpuset(7).
        Err(e @ (Errno::EPERM | Errno::EBUSY)) => {
            bail!(
                "sched_setattr: {e} (it takes CAP_SYS_NICE over the host; SCHED_DEADLINE also takes all processors, \
                 not a cpuset's)"
            )
        }
        other => other.context("sched_setattr"),
    }
}

/// A working directory outside the root would be a way out (CVE-2024-21626).
fn inside_the_root() -> Result<()> {
    let now = process::working_directory().context("getcwd")?;
    if now.first() != Some(&b'/') {
        bail!("{} is outside the container", String::from_utf8_lossy(&now));
    }
    Ok(())
}
