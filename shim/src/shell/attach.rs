//! `attach`: a container's output from now on, and this terminal, or stdin, as its input.

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

use super::home::{Home, Status};
use super::logs::Reader;
use super::run::calls;

/// How soon output and a new size of the window are seen.
const PAUSE: Duration = Duration::from_millis(20);

/// What leaves a terminal to itself: ctrl-p ctrl-q, docker's keys.
const LEAVE: [u8; 2] = [0x10, 0x11];

/// Why attach ends before the container does.
struct Left;

/// The exit code: the container's, or 0 for who leaves.
pub fn attach(home: &Home) -> Result<u8> {
    let about = home.about()?;
    let mut output = Reader::at_end(about.log.clone())?;
    let (leave, left) = channel();
    // To be restored whatever happens.
    let _raw = if about.terminal && stdin().is_terminal() { Some(Raw::set()?) } else { None };
    let has_input = exists(&home.path("stdin")).context("look for the container's input")?;
    if has_input && home.status()? == Status::Running {
        input(home, about.terminal, leave)?;
    } else {
        // The other end must stay, or its absence would be news.
        std::mem::forget(leave);
    }
    let mut size = (0, 0);
    loop {
        let over = home.status()? != Status::Running;
        output.more()?;
        if over {
            return home.wait();
        }
        if about.terminal {
            follow_window(home, &mut size);
        }
        if is_left(&left) {
            return Ok(0);
        }
    }
}

fn is_left(left: &Receiver<Left>) -> bool {
    match left.recv_timeout(PAUSE) {
        Ok(Left) => true,
        Err(RecvTimeoutError::Disconnected) => {
            // The input has ended, the container hasn't.
            std::thread::sleep(PAUSE);
            false
        }
        Err(RecvTimeoutError::Timeout) => false,
    }
}

/// Gives the container's terminal the size of ours.
fn follow_window(home: &Home, last: &mut (u16, u16)) {
    // Not each of them has one.
    let Some(size @ (rows, columns)) = tty::size(stdin()).ok().filter(|size| size != last) else { return };
    *last = size;
    let (width, height) = (u32::from(columns), u32::from(rows));
    let resize = ResizePtyRequest { id: home.id.clone(), width, height, ..Default::default() };
    // It may have ended; and its size is no reason to leave it.
    let _ = calls(home, async |tasks| Ok(tasks.resize_pty(context::Context::default(), &resize).await?));
}

/// Copies our stdin to the container's, in the background.
fn input(home: &Home, terminal: bool, leave: Sender<Left>) -> Result<()> {
    let mut fifo = OpenOptions::new()
        .write(true)
        // The shim holds the other end; where it doesn't any more, this must not wait.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(home.path("stdin"))
        .context("open the container's input")?;
    nix::fcntl::fcntl(&fifo, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
    let (id, home) = (home.id.clone(), Home::open(&home.id)?);
    std::thread::spawn(move || {
        let mut block = [0; 4096];
        let mut keys = Keys::default();
        while let Ok(len @ 1..) = stdin().read(&mut block) {
            let typed = if terminal { keys.pass(&block[..len]) } else { Some(block[..len].to_vec()) };
            match typed {
                Some(bytes) if fifo.write_all(&bytes).is_ok() => {}
                Some(_) => return,
                None => {
                    // Or attach has ended already.
                    let _ = leave.send(Left);
                    return;
                }
            }
        }
        let close = CloseIORequest { id, stdin: true, ..Default::default() };
        // It may have ended.
        let _ = calls(&home, async |tasks| Ok(tasks.close_io(context::Context::default(), &close).await?));
    });
    Ok(())
}

/// Looks for the keys that leave.
#[derive(Default)]
struct Keys {
    /// The first of the two was the last that was typed.
    half: bool,
}

impl Keys {
    /// What is for the container; None: leave.
    fn pass(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(typed.len() + 1);
        for key in typed {
            if std::mem::take(&mut self.half) {
                if *key == LEAVE[1] {
                    return None;
                }
                bytes.push(LEAVE[0]);
            }
            if *key == LEAVE[0] {
                self.half = true;
            } else {
                bytes.push(*key);
            }
        }
        Some(bytes)
    }
}

/// Our terminal, every key of which is the container's until this is dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> Result<Raw> {
        let before = tcgetattr(stdin()).context("read the terminal's modes")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("set the terminal's modes")?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_leave_and_all_others_pass() {
        let mut keys = Keys::default();
        assert_eq!(keys.pass(b"ls\r").unwrap(), b"ls\r");
        assert_eq!(keys.pass(b"a\x10").unwrap(), b"a");
        assert_eq!(keys.pass(b"b").unwrap(), b"\x10b");
        assert_eq!(keys.pass(b"\x10\x10").unwrap(), b"\x10");
        assert_eq!(keys.pass(b"\x11"), None);
        assert_eq!(keys.pass(b"x\x10\x11y"), None);
    }
}
