//! `binary://`: a program that takes a container's output, as containerd's loggers do: stdout as its descriptor 3,
//! stderr as 4, and 5 to say that it is ready.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use linux::process::pass_as_3_to_5;
use linux::watch::watched;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use tokio::io::Interest;

use super::Owner;
use super::open;
use super::uri::Binary;
use crate::reaper::Reaper;

/// How long a logger may go on with what is left for it, as containerd's own shim has it.
const EXIT_GRACE: std::time::Duration = std::time::Duration::from_secs(12);

/// A logger at work. It ends by itself when it has read all there is; who still runs some time after the container was
/// deleted is ended.
pub struct Logger {
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Logger {
    /// Starts it and waits until it is ready; the descriptors are the container's stdout and stderr.
    ///
    /// # Errors
    /// It can't be started, or ends before it is ready.
    pub async fn start(
        binary: &Binary,
        owner: &Owner<'_>,
        reaper: &Reaper,
    ) -> Result<(Logger, [OwnedFd; 2])> {
        let (out, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (err, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, says_ready) = pipe2(OFlag::O_CLOEXEC)?;
        let mut command = Command::new(&binary.path);
        command.args(&binary.args);
        command.env("CONTAINER_ID", owner.id).env("CONTAINER_NAMESPACE", owner.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        pass_as_3_to_5(&mut command, [&out, &err, &says_ready]);
        let child = reaper
            .spawn(&mut command)
            .with_context(|| format!("start the logger {}", binary.path.display()))?;
        drop((out, err, says_ready));
        let pid = Pid::from_raw(child.pid);
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut end = std::pin::pin!(child.end());
            tokio::select! { _ = &mut end => return, _ = &mut stopped => {} }
            // It has what is still in the pipes to write.
            for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                if tokio::time::timeout(EXIT_GRACE, &mut end).await.is_ok() {
                    return;
                }
                // It may have ended just now, and is still ours to be waited for.
                let _ = kill(pid, signal);
            }
        });
        let said = wait_ready(ready).await.context("wait for the logger")?;
        if binary.says_ready && !said {
            bail!("the logger {} ended before it was ready", binary.path.display());
        }
        Ok((Logger { _stop: stop }, [stdout, stderr]))
    }
}

/// Whether a byte came before the other end was closed.
async fn wait_ready(fd: OwnedFd) -> Result<bool> {
    open::set_nonblocking(&fd)?;
    let fd = watched(fd, Interest::READABLE)?;
    let read = |fd: &OwnedFd| Ok(nix::unistd::read(fd, &mut [0])?);
    Ok(fd.async_io(Interest::READABLE, read).await? > 0)
}
