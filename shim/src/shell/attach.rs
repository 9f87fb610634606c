//! `attach`: a container's output from now on, and our terminal or stdin as its input.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write, stdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{CloseIORequest, ResizePtyRequest};
use containerd_shim_protos::ttrpc::context;
use linux::absent::exists;
use linux::tty;
use nix::fcntl::OFlag;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::os::unix::fs::OpenOptionsExt;

use super::container_dir::{ContainerDir, ContainerStatus};
use super::logs::LogReader;
use super::run::with_client;

/// How soon output and a new size of the window are seen.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// ctrl-p ctrl-q, docker's keys.
const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// Somebody has typed the keys that detach.
struct Detached;

/// The exit code: the container's, or 0 for who detaches.
pub fn attach(dir: &ContainerDir) -> Result<u8> {
    let about = dir.about()?;
    let mut output = LogReader::at_end(about.log.clone())?;
    let (detach, detached) = channel();
    // To be restored whatever happens.
    let _raw = if about.terminal && stdin().is_terminal() { Some(RawMode::set()?) } else { None };
    let has_input = exists(&dir.file("stdin")).context("look for the container's input")?;
    if has_input && dir.status()? == ContainerStatus::Running {
        input(dir, about.terminal, detach)?;
    } else {
        // Kept open: a closed channel means that the input has ended.
        std::mem::forget(detach);
    }
    let mut size = (0, 0);
    loop {
        let has_exited = dir.status()? != ContainerStatus::Running;
        output.more()?;
        if has_exited {
            return dir.wait();
        }
        if about.terminal {
            follow_window(dir, &mut size);
        }
        if is_detached(&detached) {
            return Ok(0);
        }
    }
}

fn is_detached(detached: &Receiver<Detached>) -> bool {
    match detached.recv_timeout(POLL_INTERVAL) {
        Ok(Detached) => true,
        Err(RecvTimeoutError::Disconnected) => {
            // The input has ended, the container hasn't.
            std::thread::sleep(POLL_INTERVAL);
            false
        }
        Err(RecvTimeoutError::Timeout) => false,
    }
}

/// Gives the container's terminal the size of ours.
fn follow_window(dir: &ContainerDir, last: &mut (u16, u16)) {
    // Not each of them has one.
    let Some(size @ (rows, columns)) = tty::size(stdin()).ok().filter(|size| size != last) else { return };
    *last = size;
    let (width, height) = (u32::from(columns), u32::from(rows));
    let resize = ResizePtyRequest { id: dir.id.clone(), width, height, ..Default::default() };
    // It may have ended; and its size is no reason to detach.
    let _ =
        with_client(dir, async |tasks| Ok(tasks.resize_pty(context::Context::default(), &resize).await?));
}

/// Copies our stdin to the container's, in the background.
fn input(dir: &ContainerDir, terminal: bool, detach: Sender<Detached>) -> Result<()> {
    let mut fifo = OpenOptions::new()
        .write(true)
        // The shim holds the other end; where it doesn't any more, this must not wait.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(dir.file("stdin"))
        .context("open the container's input")?;
    nix::fcntl::fcntl(&fifo, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
    let dir = dir.clone();
    std::thread::spawn(move || {
        let mut block = [0; 4096];
        let mut keys = DetachKeys::default();
        while let Ok(len @ 1..) = stdin().read(&mut block) {
            let typed = if terminal { keys.pass(&block[..len]) } else { Some(block[..len].to_vec()) };
            match typed {
                Some(bytes) if fifo.write_all(&bytes).is_ok() => {}
                Some(_) => return,
                None => {
                    // Or attach has ended already.
                    let _ = detach.send(Detached);
                    return;
                }
            }
        }
        let close = CloseIORequest { id: dir.id.clone(), stdin: true, ..Default::default() };
        // It may have ended.
        let _ =
            with_client(&dir, async |tasks| Ok(tasks.close_io(context::Context::default(), &close).await?));
    });
    Ok(())
}

/// Looks for the keys that detach.
#[derive(Default)]
struct DetachKeys {
    /// The first of the two was the last that was typed.
    half: bool,
}

impl DetachKeys {
    /// What is for the container; None: detach.
    fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        for key in typed {
            if std::mem::take(&mut self.half) {
                if *key == DETACH_KEYS[1] {
                    return None;
                }
                bytes.push(DETACH_KEYS[0]);
            }
            if *key == DETACH_KEYS[0] {
                self.half = true;
            } else {
                bytes.push(*key);
            }
        }
        Some(bytes)
    }
}

/// Our terminal, every key of which is the container's until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn set() -> Result<RawMode> {
        let before = tcgetattr(stdin()).context("read the terminal's modes")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("set the terminal's modes")?;
        Ok(RawMode(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_detach_and_all_others_pass() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.pass(b"ls\r").unwrap(), b"ls\r");
        assert_eq!(keys.pass(b"a\x10").unwrap(), b"a");
        assert_eq!(keys.pass(b"b").unwrap(), b"\x10b");
        assert_eq!(keys.pass(b"\x10\x10").unwrap(), b"\x10");
        assert_eq!(keys.pass(b"\x11"), None);
        assert_eq!(keys.pass(b"x\x10\x11y"), None);
    }
}
