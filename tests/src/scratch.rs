//! A temporary directory, removed on drop, and names that no other test has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test, nor another run of the same test, uses at the same time, and that is no part of
/// another such name.
pub(crate) fn unique_name() -> String {
    // Pids come again; a test that was killed may have left its directory under the same one.
    let time =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_micros());
    format!("at-{}-{:x}-{}x", std::process::id(), time, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A fresh directory that is removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory, open to be traversed by everyone: a container's mapped root must get through.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique_name());
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("set the scratch directory's mode");
        Self(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leaked bind mount in here may be the host's own /dev: never remove through it.
        for mount in crate::mountinfo().iter().rev().filter(|m| Path::new(&m.target).starts_with(&self.0)) {
            let _ = nix::mount::umount2(mount.target.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
