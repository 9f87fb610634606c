//! Has CRIU save a running container.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use ::cgroup::Cgroup;
use anyhow::{Context, Result};
use linux::{kernfs, mountinfo};
use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, getpid};

use super::images::{DESCRIPTORS, Images, NULL, name, resolved, root};
use crate::container::criu::{Feature, Notice, Request, Worker, network_lock};
use crate::container::record::Record;
use crate::plan::Outer;

const LOG: &str = "dump.log";

/// Whom to save, and what for.
pub struct Dump<'a> {
    /// Where and how.
    pub images: &'a Images,
    /// The container.
    pub record: &'a Record,
    /// What it has of the host's.
    pub outer: &'a Outer,
    /// Its init.
    pub pid: Pid,
    /// Only its memory, and let it run on.
    pub pre_dump: bool,
    /// Gets a NUL byte as soon as pages are served (`--status-fd`).
    pub status: Option<File>,
}

/// Saves it. Afterwards its processes are gone, unless they were to be left running.
///
/// # Errors
/// Why it can't be saved; then it runs on.
pub fn dump(mut dump: Dump<'_>) -> Result<()> {
    let images = dump.images;
    let opened = images.open(getpid(), dump.outer.owner)?;
    let (descriptors, external) = streams(dump.record, dump.pid)?;
    let mut request = Request {
        pid: Some(dump.pid.as_raw()),
        root: dump.record.rootfs.display().to_string(),
        freezer: Cgroup::new(dump.record.cgroups.clone()).freezer_dir()?,
        mounts: mounts(dump.outer, dump.pid)?,
        external: [external, namespaces(dump.outer, dump.pid)?].concat(),
        ..images.request(&opened, LOG, Request::default())
    };
    if !dump.pre_dump {
        let path = images.images.join(DESCRIPTORS);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let text = serde_json::to_vec(&descriptors)?;
        file.and_then(|mut f| f.write_all(&text)).with_context(|| format!("write {}", path.display()))?;
    }
    let worker = Worker::start(&images.program)?;
    let done = ask(&worker, &mut request, &mut dump);
    worker.end()?;
    done
}

fn ask(worker: &Worker, request: &mut Request, dump: &mut Dump<'_>) -> Result<()> {
    let session = &worker.session;
    let version = session.require(&request.wishes)?;
    request.lock = network_lock(version, &request.wishes, dump.outer.has_network());
    if request.wishes.lazy_pages {
        session.require_feature(Feature::LazyPages, "--lazy-pages")?;
    }
    let done = if dump.pre_dump {
        session.require_feature(Feature::MemTrack, "--pre-dump")?;
        session.pre_dump(request)
    } else {
        session.dump(request, &mut |notice| match notice {
            Notice { name, .. } if name == "status-ready" => report_ready(dump.status.take()),
            _ => Ok(()),
        })
    };
    done.map_err(|reason| dump.images.explain(reason, LOG))
}

/// `--status-fd`: one NUL byte, once the page server can be reached.
fn report_ready(status: Option<File>) -> Result<()> {
    status.map_or(Ok(()), |mut file| file.write_all(b"\0")).context("--status-fd")
}

/// What of the mounts is the host's: each mountpoint, and its name in the images.
fn mounts(outer: &Outer, pid: Pid) -> Result<Vec<(String, String)>> {
    // As the container sees itself, links and mounts that it has made since included.
    let root = root(Path::new(&format!("/proc/{pid}/root")))?;
    let mut mounts = Vec::new();
    for (target, _) in &outer.mounts {
        let path = resolved(&root, target, Path::new("/"))?;
        mounts.push((path.clone(), path));
    }
    for path in &outer.masks {
        let found = match root.find(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            found => found.with_context(|| format!("open {path}"))?,
        };
        let kind = fstat(&found).with_context(|| format!("fstat {path}"))?.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFDIR.bits() {
            mounts.push((resolved(&root, path, Path::new("/"))?, NULL.to_owned()));
        }
    }
    Ok(mounts)
}

/// `net[INODE]:NAME`: the namespaces that stay where they are.
fn namespaces(outer: &Outer, pid: Pid) -> Result<Vec<String>> {
    let known = outer.namespaces.iter().filter_map(|(kind, ..)| name(*kind));
    known
        .map(|(kind, name)| {
            let path = format!("/proc/{pid}/ns/{kind}");
            let inode = std::fs::metadata(&path).with_context(|| format!("stat {path}"))?.ino();
            Ok(format!("{kind}[{inode}]:{name}"))
        })
        .collect()
}

/// Where each of the three streams came from, and which of them are files of the host's that no mount of the container
/// leads to: `file[MOUNT:INODE]`, both in hexadecimal. Pipes go by the text of their links.
fn streams(record: &Record, pid: Pid) -> Result<(Vec<String>, Vec<String>)> {
    let mountinfo =
        kernfs::read(Path::new(&format!("/proc/{pid}/mountinfo"))).context("read its mountinfo")?;
    let own: Vec<u64> = mountinfo::parse(&mountinfo)?.iter().map(|mount| mount.id).collect();
    let mut descriptors = record.streams.clone();
    let mut external = Vec::new();
    for (n, stream) in descriptors.iter_mut().enumerate() {
        let path = format!("/proc/{pid}/fd/{n}");
        // It may have another one by now.
        let is_same = std::fs::read_link(&path).is_ok_and(|link| link.to_string_lossy() == *stream);
        if !is_same || !stream.starts_with('/') {
            continue;
        }
        let meta = std::fs::metadata(&path).with_context(|| format!("stat {path}"))?;
        let is_terminal = meta.file_type().is_char_device() && nix::sys::stat::major(meta.rdev()) != 1;
        let fdinfo =
            kernfs::read(Path::new(&format!("/proc/{pid}/fdinfo/{n}"))).context("read its fdinfo")?;
        let mount = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        if let Some(mount) = mount.filter(|mount| !is_terminal && !own.contains(mount)) {
            *stream = format!("file[{mount:x}:{:x}]", meta.ino());
            external.push(stream.clone());
        }
    }
    external.dedup();
    Ok((descriptors, external))
}
