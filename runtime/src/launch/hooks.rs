//! Runs hooks: the state on stdin, a time limit, and what they had to say when they fail (config.md#posix-platform-hooks).

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use linux::{interrupt, pidfd, process};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::{Pid, pipe2};

use crate::plan::step::{Hook, HookKind};

/// Runs all hooks of one kind in order, each with `state` on its stdin.
///
/// # Errors
/// `error running KIND hook #N: …` of the first that fails; the later ones are not run.
pub fn run(kind: HookKind, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (n, hook) in hooks.iter().enumerate() {
        one(kind, hook, state)
            .with_context(|| format!("error running {kind} hook #{n}: {}", hook.path.display()))?;
    }
    Ok(())
}

fn one(kind: HookKind, hook: &Hook, state: &[u8]) -> Result<()> {
    let (mut output, writer) = Output::new()?;
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(input(state)?);
    command.stdout(writer.try_clone()?).stderr(writer);
    // What the caller has left open, or passes on to the payload, is no hook's.
    process::close_at_exec(&mut command);
    process::unblock_signals(&mut command);
    // The container's own filter may be in force there, and know no more calls than a program needs.
    let is_the_containers = kind == HookKind::StartContainer;
    if !is_the_containers {
        // When the runtime is killed, nobody waits for its hook any more, nor learns how it ends: it is killed, too.
        process::die_with_us(&mut command);
    }
    let mut child = command.spawn().context("exec")?;
    // With its copies of the hook's end.
    drop(command);
    let status = match hook.timeout {
        timeout if output.is_pipe => wait_and_read(&mut child, timeout, &mut output, is_the_containers)?,
        None if is_the_containers => child.wait().context("wait")?,
        timeout => wait(&mut child, timeout)?,
    };
    if !status.success() {
        bail!("{status}{}", output.said());
    }
    Ok(())
}

/// A pipe that holds the whole state, and needs no writer any more: to RLIMIT_FSIZE a file in memory is a file. One is taken
/// only for a state that is longer than a pipe is by default (pipe(7)).
fn input(state: &[u8]) -> Result<Stdio> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    let size = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).context("F_GETPIPE_SZ")?;
    if usize::try_from(size).is_ok_and(|size| state.len() <= size) {
        File::from(writer).write_all(state).context("write the state")?;
        return Ok(Stdio::from(reader));
    }
    let mut file = File::from(memfd_create(c"state", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
    file.write_all(state).and_then(|()| file.rewind()).context("write the state")?;
    Ok(Stdio::from(file))
}

fn wait(child: &mut Child, timeout: Option<u32>) -> Result<ExitStatus> {
    let fd = pidfd::open(Pid::from_raw(child.id() as i32)).context("pidfd_open")?;
    let patience = timeout.map(|seconds| Duration::from_secs(seconds.into()));
    let ended = interrupt::poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], patience);
    if !matches!(ended, Ok(1..)) {
        end(child);
    }
    match (ended.context("wait for its end")?, timeout) {
        (0, Some(seconds)) => Err(timed_out(seconds)),
        _ => child.wait().context("wait"),
    }
}

/// The same of a hook whose output has to be read, or it would wait for that. In turns: in the container there may be no
/// call that waits for both.
fn wait_and_read(
    child: &mut Child,
    timeout: Option<u32>,
    output: &mut Output,
    is_the_containers: bool,
) -> Result<ExitStatus> {
    const TURN: Duration = Duration::from_millis(5);
    let start = Instant::now();
    loop {
        let ended = child.try_wait().context("wait")?;
        output.read()?;
        if let Some(status) = ended {
            return Ok(status);
        }
        let slept = if is_the_containers {
            std::thread::sleep(TURN);
            Ok(())
        } else {
            interrupt::sleep(TURN)
        };
        let seconds = timeout.filter(|seconds| start.elapsed() > Duration::from_secs((*seconds).into()));
        if slept.is_err() || seconds.is_some() {
            end(child);
        }
        slept.context("wait for its end")?;
        if let Some(seconds) = seconds {
            return Err(timed_out(seconds));
        }
    }
}

fn timed_out(seconds: u32) -> anyhow::Error {
    anyhow!("did not end within its timeout of {seconds} s")
}

/// It is ours until it was waited for, so neither can fail but for a reason that is told besides.
fn end(child: &mut Child) {
    // As said above.
    let _ = child.kill();
    let _ = child.wait();
}

/// What a hook says. A file in memory rather than a pipe: it may say as much as it likes, and leave children behind that
/// hold it open, without anybody waiting for anybody. Where files may not grow (RLIMIT_FSIZE), a pipe that is read.
struct Output {
    reader: File,
    is_pipe: bool,
    /// The last of what was read.
    tail: Vec<u8>,
}

impl Output {
    /// What is told of it in an error.
    const MOST: usize = 1024;

    fn new() -> Result<(Output, File)> {
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE).context("getrlimit")?;
        if limit == RLIM_INFINITY {
            let file = File::from(memfd_create(c"output", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
            let writer = file.try_clone().context("dup")?;
            return Ok((Output { reader: file, is_pipe: false, tail: Vec::new() }, writer));
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl")?;
        Ok((Output { reader: reader.into(), is_pipe: true, tail: Vec::new() }, writer.into()))
    }

    /// Takes what there is in the pipe.
    fn read(&mut self) -> Result<()> {
        let mut block = [0; 4096];
        loop {
            match self.reader.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(n) => self.tail.extend(&block[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("read its output"),
            }
            let old = self.tail.len().saturating_sub(Self::MOST);
            self.tail.drain(..old);
        }
    }

    /// For an error, and so without one of its own: the hook's own words, the last of them if there are many, on one line.
    fn said(mut self) -> String {
        if !self.is_pipe {
            let len = self.reader.metadata().map_or(0, |m| m.len());
            let from = SeekFrom::Start(len.saturating_sub(Self::MOST as u64));
            if self.reader.seek(from).is_err() || self.read().is_err() {
                return String::new();
            }
        }
        let text = String::from_utf8_lossy(&self.tail).trim().replace('\n', " | ");
        if text.is_empty() { text } else { format!(", it said: {text}") }
    }
}
