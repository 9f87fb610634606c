//! Has CRIU bring a container back.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use linux::{interrupt, kernfs, pidfd};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::host::{Host, Peer};
use super::images::{DESCRIPTORS, Images, NULL, name, resolved, root};
use super::{Launched, clone, foreground, send_fd};
use crate::container::criu::{self, Notice, Request, Session, network_lock};
use crate::container::record::Record;
use crate::container::status::Init;
use crate::container::store::Locked;
use crate::plan::namespaces::proc_name;
use crate::plan::{self, Console, Outer};

const LOG: &str = "restore.log";
/// How long CRIU may take to remove what it has made, once our end of its socket is closed.
const CLEANING_UP: Duration = Duration::from_secs(5);
/// Three short texts.
const MAX_DESCRIPTORS: u64 = 64 << 10;

/// What to bring back, and where to.
pub struct Restore<'a> {
    /// Where from, and how.
    pub images: &'a Images,
    /// From [`crate::plan::restore`].
    pub plan: &'a plan::Restore,
    /// What it has of the host's.
    pub outer: &'a Outer,
    /// Where it is mounted for CRIU.
    pub stage: &'a Path,
    /// Where its terminal goes.
    pub console: &'a Console,
    /// The signal mask that CRIU gets.
    pub signals: SigSet,
}

/// Plays the plan up to CRIU, and has that do the rest.
///
/// # Errors
/// The step that failed, or why CRIU did. What exists by then is the caller's to remove.
pub fn restore(restore: &Restore<'_>, locked: &Locked, record: &Record) -> Result<Launched> {
    let mut inherited = streams(&restore.images.images)?;
    let mut host = Host::new(&restore.plan.plan, record, None);
    host.pre_clone()?;
    let (session, theirs) = criu::pair()?;
    host.handles[restore.plan.socket.0] = Some(theirs);
    let joined = namespaces(restore.outer, &host.handles, &mut inherited);
    let (ours, worker, handle) = clone(&mut host, restore.signals)?;
    let mut talk = Talk { restore, host, locked, record };
    let request = Request { inherited, joined, ..Request::default() };
    let done = talk.carry_on(&session, request, Peer { channel: &ours, pid: worker });
    drop(session);
    if done.is_err() {
        let ended = interrupt::poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], Some(CLEANING_UP));
        if !matches!(ended, Ok(1..)) {
            // It fails only if it has ended after all.
            let _ = pidfd::signal(&handle, libc::SIGKILL);
        }
    }
    waitpid(worker, None).context("wait for criu")?;
    let pid = Pid::from_raw(done?);
    let pidfd = pidfd::open(pid).context("pidfd_open")?;
    Ok(Launched { pid, pidfd, master: talk.host.master, channel: ours })
}

/// While CRIU works.
struct Talk<'a> {
    restore: &'a Restore<'a>,
    host: Host<'a>,
    locked: &'a Locked,
    record: &'a Record,
}

impl Talk<'_> {
    fn carry_on(&mut self, session: &Session, known: Request, mut peer: Peer<'_>) -> Result<i32> {
        self.host.post_clone(&peer)?;
        // By now the places that are mounted on are there, and CRIU is where its children are to be.
        let images = self.restore.images;
        let version = session.require(&images.wishes)?;
        let opened = images.open(peer.pid, self.restore.outer.owner)?;
        let request = Request {
            siblings: true,
            root: self.restore.stage.display().to_string(),
            mounts: mounts(self.restore.outer, self.record)?,
            cgroups: cgroups(peer.pid)?,
            lock: network_lock(version, &images.wishes, self.restore.outer.has_network()),
            ..images.request(&opened, LOG, known)
        };
        let mut on_notice = |notice: Notice| match &*notice.name {
            "setup-namespaces" => {
                peer.pid = Pid::from_raw(notice.pid);
                let mut late = self.restore.plan.late.iter();
                late.try_for_each(|step| self.host.run(step, Some(&peer)))
            }
            // From here on there are processes to be found, by whoever comes after a crash.
            "post-restore" => self.locked.save_init(Init::of(Pid::from_raw(notice.pid))?),
            "orphan-pts-master" => match notice.fd {
                Some(master) => terminal(self.restore.console, &mut self.host, master),
                None => bail!("criu sent no terminal"),
            },
            _ => Ok(()),
        };
        session.restore(&request, &mut on_notice).map_err(|reason| images.explain(reason, LOG))
    }
}

fn terminal(console: &Console, host: &mut Host<'_>, master: OwnedFd) -> Result<()> {
    match console {
        Console::None => {}
        Console::Foreground => {
            foreground::follow_size(&master);
            host.master = Some(master);
        }
        Console::Socket(socket) => {
            send_fd::send_fd(master, socket, "/dev/ptmx").context("--console-socket")?
        }
    }
    Ok(())
}

/// The streams that CRIU, who has ours, hands on: those that were pipes, or files of the host's.
fn streams(images: &Path) -> Result<Vec<(String, i32)>> {
    let path = images.join(DESCRIPTORS);
    let mut text = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_DESCRIPTORS).read_to_end(&mut text))
        .with_context(|| format!("read {}", path.display()))?;
    let names: Vec<String> =
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
    let mut inherited: Vec<(String, i32)> = Vec::new();
    for (n, name) in names.into_iter().enumerate().take(3) {
        let is_ours = name.starts_with("pipe:") || name.starts_with("file[");
        // Two streams of one pipe are one to CRIU.
        if is_ours && inherited.iter().all(|(known, _)| *known != name) {
            inherited.push((name, n as i32));
        }
    }
    Ok(inherited)
}

/// A name in the images, and what it is on the host.
fn mounts(outer: &Outer, record: &Record) -> Result<Vec<(String, String)>> {
    let root = root(&record.rootfs)?;
    let mut mounts = Vec::new();
    for (target, source) in &outer.mounts {
        mounts.push((resolved(&root, target, &record.rootfs)?, source.display().to_string()));
    }
    if !outer.masks.is_empty() {
        mounts.push((NULL.to_owned(), NULL.to_owned()));
    }
    Ok(mounts)
}

/// Some are handed on as descriptors, which have the same numbers in CRIU. It joins the others, which are returned, by
/// itself.
fn namespaces(
    outer: &Outer,
    handles: &[Option<OwnedFd>],
    inherited: &mut Vec<(String, i32)>,
) -> Vec<(&'static str, String)> {
    let mut joined = Vec::new();
    for (kind, path, slot) in &outer.namespaces {
        match (name(*kind), handles.get(slot.0).and_then(Option::as_ref)) {
            (Some((_, name)), Some(fd)) => inherited.push((name.to_owned(), fd.as_raw_fd())),
            _ => joined.push((proc_name(*kind), path.display().to_string())),
        }
    }
    joined
}

/// Where a process is in each hierarchy: every controller of its own, and v2 by no name.
fn cgroups(pid: Pid) -> Result<Vec<(String, String)>> {
    let text = kernfs::read(Path::new(&format!("/proc/{pid}/cgroup"))).context("read criu's cgroup")?;
    let lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    Ok(lines
        .flat_map(|(controllers, path)| controllers.split(',').map(|c| (c.to_owned(), path.to_owned())))
        .collect())
}
