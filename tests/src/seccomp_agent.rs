//! A seccomp agent: it gets a listener over a socket and answers the system calls that wait there.

use crate::{ConsoleSocket, patience, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::JoinHandle;

/// One that listens at a path (`linux.seccomp.listenerPath`).
#[derive(Debug)]
pub struct SeccompAgent {
    thread: JoinHandle<Vec<Value>>,
}

impl SeccompAgent {
    /// Waits for that many listeners and answers every call with `value`, but those in `passed` with "go on".
    pub fn answering(path: &Path, listeners: usize, value: i64, passed: &[i64]) -> Self {
        let socket = ConsoleSocket::listen(path);
        let passed = passed.to_vec();
        let thread = std::thread::spawn(move || {
            let mut states = Vec::new();
            let mut answering = Vec::new();
            for _ in 0..listeners {
                let (listener, message) = socket.receive_descriptor();
                states.push(serde_json::from_slice(&message).expect("the container process state is JSON"));
                let passed = passed.clone();
                answering.push(std::thread::spawn(move || answer_all(&listener, value, &passed)));
            }
            answering.into_iter().for_each(|thread| thread.join().expect("every call was answered"));
            states
        });
        Self { thread }
    }

    /// The container process states that came with the listeners. Waits until nobody is left to answer.
    pub fn finish(self) -> Vec<Value> {
        self.thread.join().expect("the agent came to its end")
    }
}

fn answer_all(listener: &OwnedFd, value: i64, passed: &[i64]) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience()).expect("patience fits");
        assert_eq!(poll(&mut fds, timeout), Ok(1), "the filtered processes neither called nor ended");
        if !fds[0].revents().expect("known events").contains(PollFlags::POLLIN) {
            return; // POLLHUP: nobody is left (Linux 5.9)
        }
        // ENOENT: the caller was killed meanwhile.
        let Ok(call) = sys::receive_call(listener) else { continue };
        let goes_on = passed.contains(&i64::from(call.data.nr));
        let answer = libc::seccomp_notif_resp {
            id: call.id,
            val: if goes_on { 0 } else { value },
            error: 0,
            flags: if goes_on { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 },
        };
        let _ = sys::answer_call(listener, answer);
    }
}
