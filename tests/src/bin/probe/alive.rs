//! Commands about the probe's own life: exit, sleep, wait for signals or input, count.

use crate::consume::number;
use crate::{Answer, errno, say};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{MsgFlags, recv, send};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

pub(crate) fn exit(args: &[String]) -> Answer {
    std::process::exit(number(&args[0])?)
}

/// Sends itself a signal by name. (PID 1 of a namespace survives it: the kernel protects it from itself.)
pub(crate) fn raise(args: &[String]) -> Answer {
    nix::sys::signal::raise(number::<Signal>(&args[0])?)?;
    Ok(json!("survived"))
}

/// `sleep SECONDS`, after saying so.
pub(crate) fn sleep(args: &[String]) -> Answer {
    say(&json!("sleeping"));
    std::thread::sleep(Duration::from_secs(number(&args[0])?));
    Ok(json!("slept"))
}

/// `signals LAST`: says "ready", then the name of each signal that arrives, until LAST has.
///
/// They are blocked and waited for: a blocked signal reaches even PID 1, which the kernel otherwise shields
/// from signals that it has no handler for.
pub(crate) fn signals(args: &[String]) -> Answer {
    let last: Signal = number(&args[0])?;
    let set = SigSet::all();
    set.thread_block()?;
    say(&json!("ready"));
    loop {
        let signal = set.wait()?;
        if signal == last {
            return Ok(json!(signal.as_str()));
        }
        say(&json!(signal.as_str()));
    }
}

/// Says the window's size now, and again after each SIGWINCH, until SIGTERM.
pub(crate) fn window_changes(_: &[String]) -> Answer {
    let set = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGTERM]);
    set.thread_block()?;
    loop {
        say(&json!(crate::sys::window_size()?));
        if set.wait()? == Signal::SIGTERM {
            return Ok(json!("SIGTERM"));
        }
    }
}

/// Reads one line of stdin and says it.
pub(crate) fn line(_: &[String]) -> Answer {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(errno)?;
    Ok(json!(line.trim_end_matches('\n')))
}

/// Says 1, 2, 3, … for ever.
pub(crate) fn count(_: &[String]) -> Answer {
    for number in 1..=u64::MAX {
        say(&json!(number));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(json!("never"))
}

/// Reads lines, and says each with its number, until one is empty.
pub(crate) fn echo(_: &[String]) -> Answer {
    say(&json!("listening"));
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.map_err(errno)?;
        if line.is_empty() {
            break;
        }
        say(&json!(format!("{number}: {line}")));
    }
    Ok(json!("bye"))
}

/// Counts as `count` does, but each number goes over a TCP connection to itself first.
pub(crate) fn talk(_: &[String]) -> Answer {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(errno)?;
    let mut near = TcpStream::connect(listener.local_addr().map_err(errno)?).map_err(errno)?;
    let (mut far, _) = listener.accept().map_err(errno)?;
    for number in 1u64.. {
        let mut bytes = [0; 8];
        near.write_all(&number.to_be_bytes()).and_then(|()| far.read_exact(&mut bytes)).map_err(errno)?;
        say(&json!(u64::from_be_bytes(bytes)));
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(json!("never"))
}

/// `lock FILE`: makes it, and locks it for as long as the probe lives.
pub(crate) fn lock(args: &[String]) -> Answer {
    let file = File::create(&args[0]).map_err(errno)?;
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    std::mem::forget(lock);
    Ok(json!(0))
}

/// `swrk FD`: called like CRIU, whose version 3.9 it says it is (`criu_resp` of CRIU's rpc.proto).
pub(crate) fn old_criu(args: &[String]) -> Answer {
    let socket: i32 = number(&args[0])?;
    recv(socket, &mut [0; 4096], MsgFlags::empty())?;
    send(socket, &[8, 10, 16, 1, 82, 4, 8, 3, 16, 9], MsgFlags::empty())?;
    Ok(json!("told"))
}
