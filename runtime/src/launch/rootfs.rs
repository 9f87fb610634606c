//! Inside: the steps that build the root filesystem and enter it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::inside::{Found, Init};
use super::mounts::{self, Wanted};
use super::{nodes, old_root, restrictions, terminal};
use crate::plan::Attributes;
use crate::plan::step::{Entry, Inside, Mark};

impl Init<'_> {
    /// Steps about the tree of mounts, then those about the process itself.
    pub(super) fn build_root(&self, found: &mut Found, step: &Inside) -> Result<()> {
        match step {
            Inside::Isolate => isolate(),
            Inside::CloneTree { source, recursive, attributes, slot, .. } => {
                found.handles[slot.0] = Some(mounts::clone_host(source, *recursive, attributes, None)?);
                Ok(())
            }
            Inside::HoldRoot => {
                found.hold(open_path(Path::new("/"))?);
                Ok(())
            }
            Inside::UseRoot { slot } => {
                let root = found.take(*slot)?;
                found.hold(root);
                Ok(())
            }
            // Over "/", which can always be reached: a path may lead through what a user namespace can't see.
            // Absolute paths still mean the host's tree, for they start below this mount.
            Inside::AttachRoot { slot, .. } => {
                let tree = found.take(*slot)?;
                attach_root(found, tree, Path::new("/"))
            }
            Inside::Stage { slot, at } => {
                let tree = found.take(*slot)?;
                attach_root(found, tree, at)
            }
            Inside::ReadonlyDevice { path } => {
                linux::mount::attach(mounts::clone_device(path, true)?, open_path(path)?)
                    .context("move_mount")
            }
            Inside::ClearStage { at } => umount2(at, MntFlags::MNT_DETACH).context("umount2"),
            Inside::Mount { kind, source, parameters, attributes, target, copy_up, .. } => {
                let copy_up = *copy_up;
                mounts::mount(
                    found.root()?,
                    &Wanted { kind, source, parameters, attributes, target, copy_up },
                )
            }
            Inside::Bind { slot, target, .. } => {
                let tree = found.take(*slot)?;
                mounts::bind(found.root()?, tree, target)
            }
            Inside::SetAttributes { target, attributes, .. } => {
                mounts::remount(found.root()?, target, attributes)
            }
            Inside::MakeNode { path, node, .. } => nodes::make(found.parent(path)?, node),
            Inside::BindNode { path, node, readonly, .. } => {
                nodes::bind(found.root()?, path, node, *readonly)
            }
            Inside::Symlink { path, to } => nodes::link(found.parent(path)?, path, to),
            Inside::MakeDirectory { path, .. } => found.root()?.make_directory(path).map(drop),
            Inside::ReadonlyPath { path, .. } => restrictions::readonly(found.root()?, path),
            Inside::MaskPath { path, label, .. } => {
                let (root, masks) = found.root_and_masks()?;
                masks.hide(root, path, label.as_ref())
            }
            Inside::Console { size, node } => {
                let master = terminal::open_console(found.root()?, *size, *node)?;
                self.channel.tell(Mark::Console, Some(master.as_fd())).context("send the terminal")
            }
            Inside::Enter { how } => {
                if *how == Entry::Move {
                    let (root, procfs) = found.root_and_procfs()?;
                    old_root::leave(root.as_fd(), procfs)?;
                }
                found.root()?.enter(*how)
            }
            Inside::RootPropagation { attributes } => mounts::change(found.root()?.as_fd(), attributes),
            Inside::ReadonlyRoot => mounts::change(found.root()?.as_fd(), &Attributes::readonly(false)),
            step => self.become_payload(found, step),
        }
    }
}

/// The copy of the host's tree hears of the host's mounts and tells nothing back.
fn isolate() -> Result<()> {
    let top = open_path(Path::new("/"))?;
    linux::mount::set_attributes(top, 0, 0, libc::MS_SLAVE, true).context("mount_setattr")
}

fn attach_root(found: &mut Found, tree: OwnedFd, at: &Path) -> Result<()> {
    linux::mount::attach(&tree, open_path(at)?).context("move_mount")?;
    found.hold(tree);
    Ok(())
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}
