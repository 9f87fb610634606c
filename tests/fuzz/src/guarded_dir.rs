//! A directory for what is unpacked and kept, beside one that must stay as it is.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Where a mount namespace of one's own has an empty filesystem.
const OWN: &str = "/mnt";
/// What may be written to there, besides: where corpora and what was found are.
const SHARED: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// A file's kind, mode, owner, length and time of change; and what is in it, or where it leads.
type Seen = BTreeMap<PathBuf, (u32, u32, u64, i64, i64, Vec<u8>)>;

/// Removed when dropped.
pub struct GuardedDir {
    top: PathBuf,
    before: Seen,
}

impl GuardedDir {
    /// Makes one. Root's is in memory, where nobody else sees it and nothing outlives the process; and always called the
    /// same, so that a fuzzer can name what is beside it.
    pub fn new() -> GuardedDir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let other = || std::env::temp_dir().join(format!("ampoule-fuzz-{}-{number}", std::process::id()));
        let top = if is_own() { Path::new(OWN).join("top") } else { other() };
        for dir in [top.clone(), top.join("dir"), top.join("canary"), top.join("canary/etc")] {
            fs::create_dir(&dir).expect("make a directory");
            fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("open it");
        }
        fs::write(top.join("canary/etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("write the canary");
        symlink("etc/passwd", top.join("canary/link")).expect("make the canary's link");
        let before = look(&top);
        GuardedDir { top, before }
    }

    /// To be filled.
    pub fn dir(&self) -> PathBuf {
        self.top.join("dir")
    }

    /// Whether all is as it was, but for what is in the directory.
    pub fn is_as_it_was(&self) -> bool {
        look(&self.top) == self.before
    }
}

impl Drop for GuardedDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.top).expect("remove what was unpacked");
    }
}

/// Once for each thread: a mount namespace of its own. An image that finds a way out finds no host to damage.
fn is_own() -> bool {
    thread_local! {
        static IS_OWN: bool = unshare(CloneFlags::CLONE_NEWNS).is_ok();
        static IS_MADE: () = enter().expect("mount what can be unpacked into");
    }
    let own = IS_OWN.with(|own| *own);
    if own {
        IS_MADE.with(|()| ());
    }
    own
}

fn enter() -> std::io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let here = std::env::current_dir()?;
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let path = entry.path();
        let is_shared = here.starts_with(&path) || SHARED.iter().any(|name| path.ends_with(name));
        if !entry.file_type()?.is_dir() || is_shared {
            continue;
        }
        mount(Some(&path), &path, none, MsFlags::MS_BIND, none)?;
        mount(none, &path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    }
    Ok(mount(Some("tmpfs"), OWN, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=64m"))?)
}

fn look(top: &Path) -> Seen {
    let mut seen = Seen::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("look at the canary");
        let text = match () {
            () if meta.is_file() => fs::read(&path).expect("read the canary"),
            () if meta.is_symlink() => {
                fs::read_link(&path).expect("read the link").into_os_string().into_encoded_bytes()
            }
            () => Vec::new(),
        };
        let is_filled = path == top.join("dir");
        if meta.is_dir() && !is_filled {
            left.extend(fs::read_dir(&path).expect("list the canary").flatten().map(|entry| entry.path()));
        }
        let facts = match is_filled {
            // An image may say of its root what it likes.
            true => (0, 0, 0, 0, 0, text),
            false => (meta.mode(), meta.uid(), meta.nlink(), meta.mtime(), meta.mtime_nsec(), text),
        };
        seen.insert(path, facts);
    }
    seen
}
