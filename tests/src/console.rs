//! Pseudoterminals: one that a user sits at, and the master that a runtime sends over a console socket.

use crate::{patience, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{Termios, tcgetattr};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The master end of a pty, and the slave when we made the pair.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    slave: Option<OwnedFd>,
    seen: String,
}

impl Terminal {
    /// A terminal window of this size, for a runtime to be started in.
    pub fn open(rows: u16, columns: u16) -> Self {
        let pair = openpty(Some(&winsize(rows, columns)), None).expect("open a pty");
        Self { master: pair.master.into(), slave: Some(pair.slave), seen: String::new() }
    }

    /// Makes this the command's stdin, stdout and stderr.
    pub fn attach(&self, command: &mut Command) {
        let end = || Stdio::from(self.slave().try_clone().expect("duplicate the terminal"));
        command.stdin(end()).stdout(end()).stderr(end());
    }

    fn slave(&self) -> &OwnedFd {
        self.slave.as_ref().expect("a terminal of our own making")
    }

    /// The terminal's modes, as the program at its other end has set them.
    pub fn modes(&self) -> Termios {
        tcgetattr(self.slave()).expect("read the terminal's modes")
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        sys::set_window_size(&self.master, &winsize(rows, columns)).expect("set the window size");
    }

    /// Presses keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("type into the terminal");
    }

    /// Reads until `text` has been shown, and returns all that was shown so far.
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + patience();
        while !self.seen.contains(text) {
            assert!(Instant::now() < end, "the terminal never showed {text:?}, only {:?}", self.seen);
            if !self.read_some(100) {
                panic!("the terminal closed before it showed {text:?}; it showed {:?}", self.seen);
            }
        }
        self.seen.clone()
    }

    /// Whether `text` has been shown by now.
    pub fn has_shown(&mut self, text: &str) -> bool {
        self.read_some(100);
        self.seen.contains(text)
    }

    /// Reads what is there; `false` at the end.
    fn read_some(&mut self, milliseconds: u16) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(milliseconds)) == Ok(0) {
            return true;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            // EIO: the last holder of the slave is gone.
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
                true
            }
        }
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The socket for `--console-socket` or `--pidfd-socket`.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens at a path, which must be shorter than 108 bytes.
    pub fn listen(path: &Path) -> Self {
        let listener =
            UnixListener::bind(path).unwrap_or_else(|e| panic!("listen at {}: {e}", path.display()));
        Self { listener, path: path.to_owned() }
    }

    /// The path for the command line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal that a runtime sent, which must be exactly one descriptor.
    pub fn receive(&self) -> Terminal {
        let (master, _) = self.receive_descriptor();
        Terminal { master: master.into(), slave: None, seen: String::new() }
    }

    /// Takes the pidfd that a runtime sent; returns the host's pid of its process.
    pub fn receive_pidfd(&self) -> i32 {
        let (pidfd, _) = self.receive_descriptor();
        let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(path).expect("read what the descriptor is of");
        crate::field(&info, "Pid").parse().unwrap_or_else(|_| panic!("no pidfd: {info}"))
    }

    /// Takes what a runtime sent: exactly one descriptor, and words.
    pub(crate) fn receive_descriptor(&self) -> (OwnedFd, Vec<u8>) {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience()).expect("patience fits");
        assert_eq!(poll(&mut fds, timeout), Ok(1), "nobody connected to the console socket");
        let (connection, _) = self.listener.accept().expect("accept the runtime's connection");
        let mut bytes = [0; 16 * 1024];
        let mut data = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!([i32; 8]);
        let message =
            recvmsg::<()>(connection.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
                .expect("receive the terminal");
        let mut received = Vec::new();
        for control in message.cmsgs().expect("whole control messages") {
            if let ControlMessageOwned::ScmRights(fds) = control {
                received.extend(sys::own(fds));
            }
        }
        assert_eq!(received.len(), 1, "one descriptor was expected");
        let length = message.bytes;
        (received.remove(0), bytes[..length].to_vec())
    }
}
