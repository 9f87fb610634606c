//! CRIU, which saves processes to files and brings them back (criu.org). It is asked over a socket, by one process of
//! its own for each request: `criu swrk FD`.
//!
//! ```text
//!   runtime                              criu
//!   ───────                              ────
//!   version? feature?            ──▶
//!                                ◀──     the answer
//!   dump, pre-dump or restore    ──▶
//!                                ◀──     notification: NAME, pid, perhaps a descriptor    (several)
//!   done, or not                 ──▶
//!                                ◀──     success, pid; or failure, and why in the log
//! ```

mod request;
mod wire;

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use linux::socket::{Received, receive};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use request::{Kind, Response};

pub use request::{CgroupMode, Feature, NetworkLock, Request, Wishes};

/// The oldest that knows external pid namespaces, and sends a notification when it is ready to serve pages.
const OLDEST: [u64; 3] = [3, 15, 0];
/// An answer has a name or two and some numbers.
const MAX_ANSWER: usize = 16 << 10;
/// The part of a log that is searched for errors: its end, which has those of a failure.
const MAX_LOG: u64 = 256 << 10;

/// A notification that CRIU sends while it works; it waits for the answer.
pub struct Notice {
    /// `post-dump`, `setup-namespaces`, `post-restore`, …
    pub name: String,
    /// The root of the processes in question.
    pub pid: i32,
    /// What came along.
    pub fd: Option<OwnedFd>,
}

/// What is done at a notification; the answer to CRIU says whether it worked.
type OnNotice<'a> = &'a mut dyn FnMut(Notice) -> Result<()>;

/// CRIU's own failure: its log says why.
#[derive(Debug)]
pub struct Failed(i32);

impl std::error::Error for Failed {}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => f.write_str("criu failed"),
            errno => write!(f, "criu failed: {}", Errno::from_raw(errno)),
        }
    }
}

/// A conversation with one CRIU process.
pub struct Session(OwnedFd);

/// Where a program is on PATH, or where distributions keep those of the administrator.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    // As execvp(3) does it: what can't be looked at can't be run, and the next may be.
    dirs.map(|dir| dir.join(name)).find(|file| std::fs::metadata(file).is_ok_and(|kind| kind.is_file()))
}

/// The program, empty where there is none. `given` is the caller's own.
///
/// # Errors
/// A name that is no path.
pub fn program(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(path) if path.components().count() > 1 => Ok(path.to_owned()),
        Some(name) if name.as_os_str() != "criu" => bail!("--criu {}: expected a path", name.display()),
        _ => Ok(find("criu").unwrap_or_default()),
    }
}

/// Said by who starts it: what is wrong with the caller's wish comes first.
///
/// # Errors
/// There is no such program.
fn installed(program: &Path) -> Result<()> {
    let there = !program.as_os_str().is_empty();
    ensure!(there, "there is no criu: it does the work; install it, or name one with --criu");
    Ok(())
}

/// Both ends of a conversation: ours, and CRIU's, which is inherited by it.
pub fn pair() -> Result<(Session, OwnedFd)> {
    let kind = SockType::SeqPacket;
    let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).context("socketpair")?;
    Ok((Session(a), b))
}

/// A CRIU process without input or output of ours.
pub struct Worker {
    /// The conversation with it.
    pub session: Session,
    child: Child,
}

impl Worker {
    /// Starts the program.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(program: &Path) -> Result<Worker> {
        installed(program)?;
        let (session, theirs) = pair()?;
        // This program has one thread, so nobody else starts a program that would inherit it, too.
        inherit(theirs.as_fd())?;
        let mut command = Command::new(program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Worker { session, child })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<()> {
        drop(self.session);
        self.child.wait().context("wait for criu").map(drop)
    }
}

/// In the process that becomes CRIU: its arguments and its environment. It inherits the descriptors, of which the first
/// is its end of the conversation.
pub fn command(program: &Path, inherited: &[BorrowedFd<'_>]) -> Result<(Vec<String>, Vec<String>)> {
    installed(program)?;
    inherited.iter().try_for_each(|fd| inherit(*fd))?;
    let socket = inherited.first().map_or(-1, AsRawFd::as_raw_fd);
    // It runs tar and iptables, which it looks for itself.
    let pair = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
    let args = vec!["criu".to_owned(), "swrk".to_owned(), socket.to_string()];
    Ok((args, std::env::vars_os().map(pair).collect()))
}

/// Keeps a descriptor open across exec.
fn inherit(fd: BorrowedFd<'_>) -> Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).context("fcntl F_SETFD").map(drop)
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Session {
    /// Major, minor, sublevel.
    fn version(&self) -> Result<[u64; 3]> {
        self.send(&request::question(Kind::Version, None))?;
        Ok(self.receive()?.0.version)
    }

    /// CRIU's version, which has to be new enough for what is asked of it.
    ///
    /// # Errors
    /// It is not; or no answer.
    pub fn require(&self, wishes: &Wishes) -> Result<[u64; 3]> {
        let version = self.version()?;
        let wanted = |oldest: [u64; 3], what: &str| match version < oldest {
            true => bail!("criu {} is too old: {what} takes {} or newer", dotted(version), dotted(oldest)),
            false => Ok(()),
        };
        wanted(OLDEST, "it")?;
        // 3.15 took it and did something else.
        if wishes.lsm_profile.is_some() {
            wanted([3, 16, 0], "--lsm-profile")?;
        }
        if wishes.lsm_mount_context.is_some() {
            wanted([3, 16, 0], "--lsm-mount-context")?;
        }
        Ok(version)
    }

    /// Refuses a kernel, or a CRIU, that lacks something.
    ///
    /// # Errors
    /// It does.
    pub fn require_feature(&self, feature: Feature, what: &str) -> Result<()> {
        self.send(&request::question(Kind::FeatureCheck, Some(feature)))?;
        match self.receive()?.0 {
            Response { success: true, features, .. } if features.contains(&(feature as u64)) => Ok(()),
            Response { success: true, .. } => bail!("{what}: this kernel, or this criu, can't do that"),
            _ => bail!("{what}: criu can't tell whether it does that here (see criu check)"),
        }
    }

    /// Has the processes of `request.pid` saved.
    ///
    /// # Errors
    /// CRIU's, or those of `on_notice`. The processes run on.
    pub fn dump(&self, request: &Request, on_notice: OnNotice<'_>) -> Result<()> {
        self.carry_out(Kind::Dump, request, on_notice).map(drop)
    }

    /// Has their memory saved, and lets them run on.
    ///
    /// # Errors
    /// As those of [`Session::dump`].
    pub fn pre_dump(&self, request: &Request) -> Result<()> {
        self.carry_out(Kind::PreDump, request, &mut |_| Ok(())).map(drop)
    }

    /// Has processes brought back; returns the root's pid.
    ///
    /// # Errors
    /// CRIU's, or those of `on_notice`. It has killed what it had made, then.
    pub fn restore(&self, request: &Request, on_notice: OnNotice<'_>) -> Result<i32> {
        self.carry_out(Kind::Restore, request, on_notice)
    }

    fn carry_out(&self, kind: Kind, request: &Request, on_notice: OnNotice<'_>) -> Result<i32> {
        self.send(&request.encode(kind))?;
        let mut reason = None;
        loop {
            let (said, fd) = self.receive()?;
            if said.kind == Kind::Notify as u64 {
                let taken = on_notice(Notice { name: said.script, pid: said.pid, fd });
                self.send(&request::acknowledgement(taken.is_ok()))?;
                // Our own reason is better than CRIU's, who knows only that we refused.
                reason = taken.err().or(reason);
                continue;
            }
            return match (said, reason) {
                (_, Some(reason)) => Err(reason),
                (Response { success: true, pid, .. }, None) => Ok(pid),
                (Response { errno, .. }, None) => Err(Failed(errno).into()),
            };
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        match send(self.0.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EPIPE) => bail!("criu ended without an answer"),
            other => other.context("send to criu").map(drop),
        }
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let mut bytes = vec![0; MAX_ANSWER];
        let received = match receive(&self.0, &mut bytes) {
            // It has not even read the question.
            Err(Errno::ECONNRESET) => Received { len: 0, fd: None, sender: 0 },
            other => other.context("receive from criu")?,
        };
        match received.len {
            0 => bail!("criu ended without an answer"),
            MAX_ANSWER => bail!("criu's answer is longer than {MAX_ANSWER} bytes"),
            len => Ok((Response::decode(&bytes[..len]).context("criu's answer")?, received.fd)),
        }
    }
}

/// How packets are held back, where there is no iptables. `joined`: in a network namespace that outlives the container.
pub fn network_lock(version: [u64; 3], wishes: &Wishes, joined: bool) -> Option<NetworkLock> {
    match find("iptables-restore") {
        Some(_) => None,
        // Its table is still there at the restore, which up to CRIU 4.1 then fails. Without connections to be saved there
        // is nothing to hold back for.
        None if joined && !wishes.tcp_established && version >= [4, 0, 0] => Some(NetworkLock::Skip),
        None => Some(NetworkLock::Nftables),
    }
}

/// A version as people write it.
pub fn dotted(version: [u64; 3]) -> String {
    let [major, minor, sublevel] = version;
    if sublevel == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{sublevel}") }
}

/// For an error, and so without one of its own: what CRIU's log in that directory says about it, and where that is.
pub fn complaint(dir: &Path, log: &str) -> String {
    let path = dir.join(log);
    // What can't be read the path tells.
    let first = File::open(&path).ok().and_then(|mut file| {
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG))).ok()?;
        let mut text = Vec::new();
        file.take(MAX_LOG).read_to_end(&mut text).ok()?;
        cause(&String::from_utf8_lossy(&text))
    });
    match first {
        Some(line) => format!("{line} (see {})", path.display()),
        None => format!("see {}", path.display()),
    }
}

/// `(00.013579) Error (criu/FILE.c:LINE): TEXT`. The first is the cause, to which every caller of what failed adds its
/// own, up to one that says only that all has failed. What CRIU found the kernel to lack before it began is no cause, and
/// util.c's tell how a helper program ended, which is explained then.
fn cause(log: &str) -> Option<String> {
    let errors = |log: &'_ str| -> Vec<(String, String)> {
        let split = |line: &str| {
            line.split_once("Error (")?
                .1
                .split_once("): ")
                .map(|(at, text)| (at.to_owned(), text.trim().to_owned()))
        };
        log.lines().filter_map(split).collect()
    };
    let began = ["umping processes (", "Reading image tree"].iter().filter_map(|mark| log.find(mark)).min();
    let after = errors(&log[began.unwrap_or(0)..]);
    let own = after.iter().find(|(at, text)| !at.contains("/util.c") && !text.ends_with("FAILED."));
    own.or(after.first()).cloned().or_else(|| errors(log).into_iter().next()).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_s_cause_is_its_first_error() {
        let log = "\
(00.010000) Running pre-dump scripts
Error (criu/util.c:641): execvp(\"iptables-restore\", ...) failed: No such file or directory
(00.020000) Error (criu/net.c:3282): net: Locking network failed
(00.030000) Error (criu/cr-dump.c:2111): Dumping FAILED.
";
        assert_eq!(cause(log).unwrap(), "net: Locking network failed");
        let log =
            "(00.1) Error (criu/util.c:641): execvp(x)\n(00.2) Error (criu/cr-dump.c:1): Dumping FAILED.\n";
        assert_eq!(cause(log).unwrap(), "execvp(x)");
        let log = "(00.1) Error (criu/tun.c:85): tun: Unable to create tun\n(00.2) Reading image tree\n\
                   (00.3)      1: Error (criu/files.c:1): bad size 0\n(00.4) Error (criu/x.c:1): x\n";
        assert_eq!(cause(log).unwrap(), "bad size 0");
        assert_eq!(cause("(00.1) all is well\n"), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!([3, 9, 0] < OLDEST && [3, 17, 1] > OLDEST && [4, 1, 0] > OLDEST);
        assert_eq!((dotted([4, 1, 1]), dotted([3, 15, 0])), ("4.1.1".to_owned(), "3.15".to_owned()));
    }
}
