//! An overlay's layers: a list that may be longer than a page, and whose owners may be others inside a user namespace.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::options::MountOptions;

/// Names the layers from the directory that holds all of them, and tells which that is. None: there is none.
pub fn shorten(options: &mut MountOptions) -> Option<PathBuf> {
    let layers = options.data.iter_mut().find(|option| option.starts_with("lowerdir="))?;
    let list: Vec<&str> = layers["lowerdir=".len()..].split(':').collect();
    let first = Path::new(list.first()?).parent()?;
    let base = first.ancestors().find(|dir| list.iter().all(|layer| Path::new(layer).starts_with(dir)))?;
    let short: Option<Vec<&str>> =
        list.iter().map(|l| Path::new(l).strip_prefix(base).ok()?.to_str()).collect();
    let (base, short) = (base.to_owned(), short?.join(":"));
    *layers = format!("lowerdir={short}");
    Some(base)
}

/// Does something in another working directory: the shim has one thread.
pub fn within<T>(dir: &Path, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = std::env::current_dir().context("find the working directory")?;
    std::env::set_current_dir(dir).with_context(|| format!("go to {}", dir.display()))?;
    let done = act();
    std::env::set_current_dir(&before).with_context(|| format!("go back to {}", before.display()))?;
    done
}

/// Does something in a directory whose owners are mapped. An overlay can't be mapped itself, only what it is made of; and
/// its layers must be mounted somewhere while it is made (clone_private_mount in fs/namespace.c, Linux 5.14), at `staging`.
pub fn within_mapped<T>(
    base: &Path,
    namespace: &OwnedFd,
    staging: &Path,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    fs::create_dir_all(staging).with_context(|| format!("make {}", staging.display()))?;
    let mapped = super::attach_mapped(base, staging, namespace);
    let done = mapped
        .with_context(|| format!("map the owners of {}", base.display()))
        .and_then(|()| within(staging, act));
    // The overlay has its own hold on the layers. EINVAL: nothing was mounted.
    let unmounted = match umount2(staging, MntFlags::MNT_DETACH) {
        Err(Errno::EINVAL) => Ok(()),
        other => other.with_context(|| format!("unmount {}", staging.display())),
    };
    let removed = fs::remove_dir(staging).with_context(|| format!("remove {}", staging.display()));
    done.and_then(|value| unmounted.and(removed).map(|()| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(layers: &str) -> MountOptions {
        MountOptions { data: vec!["index=off".to_owned(), layers.to_owned()], ..MountOptions::none() }
    }

    #[test]
    fn layers_are_named_from_the_directory_that_holds_all_of_them() {
        let mut long = options("lowerdir=/var/snap/9/fs:/var/snap/10/fs:/var/other");
        assert_eq!(shorten(&mut long), Some("/var".into()));
        assert_eq!(long.data(), "index=off,lowerdir=snap/9/fs:snap/10/fs:other");
        assert_eq!(shorten(&mut options("upperdir=/a")), None);
    }
}
