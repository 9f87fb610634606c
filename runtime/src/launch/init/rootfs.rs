//! In the new process: the steps that build the root filesystem and enter it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;

use super::super::restrictions::Masks;
use super::super::root::Root;
use super::super::{mounts, nodes, old_root, restrictions, terminal};
use super::{Init, NEVER_OPENED, NO_ROOT, State};
use crate::plan::Attributes;
use crate::plan::path::ContainerPath;
use crate::plan::step::{FdSlot, InitSync, RootfsStep};

impl Init<'_> {
    pub(super) fn rootfs(&self, state: &mut State, step: &RootfsStep) -> Result<()> {
        match step {
            RootfsStep::MakeRootSlave => make_root_slave(),
            RootfsStep::CloneMount { source, recursive, attributes, slot, .. } => {
                state.handles[slot.0] = Some(mounts::clone_host(source, *recursive, attributes, None)?);
                Ok(())
            }
            RootfsStep::OpenRoot => {
                state.hold(open_path(Path::new("/"))?);
                Ok(())
            }
            RootfsStep::UseRoot { slot } => {
                let root = state.take(*slot)?;
                state.hold(root);
                Ok(())
            }
            // Over "/", which can always be reached: a path may lead through what a user namespace can't see.
            // Absolute paths still mean the host's tree, for they start below this mount.
            RootfsStep::AttachRoot { slot, .. } => {
                let tree = state.take(*slot)?;
                attach_root(state, tree, Path::new("/"))
            }
            RootfsStep::AttachForCriu { slot, at } => {
                let tree = state.take(*slot)?;
                attach_root(state, tree, at)
            }
            RootfsStep::ReadonlyForCriu { path } => {
                linux::mount::attach(mounts::clone_device(path, true)?, open_path(path)?)
                    .context("move_mount")
            }
            RootfsStep::Unmount { at } => umount2(at, MntFlags::MNT_DETACH).context("umount2"),
            RootfsStep::Mount(mount) => mounts::mount(state.root()?, mount),
            RootfsStep::BindMount { slot, target, .. } => {
                let tree = state.take(*slot)?;
                mounts::bind(state.root()?, tree, target)
            }
            RootfsStep::Remount { target, attributes, .. } => {
                mounts::remount(state.root()?, target, attributes)
            }
            RootfsStep::Mknod { path, node, .. } => nodes::make(state.parent(path)?, node),
            RootfsStep::BindDevice { path, node, readonly, .. } => {
                nodes::bind(state.root()?, path, node, *readonly)
            }
            RootfsStep::Symlink { path, to } => nodes::link(state.parent(path)?, path, to),
            RootfsStep::Mkdir { path, .. } => state.root()?.make_directory(path).map(drop),
            RootfsStep::ReadonlyPath { path } => restrictions::readonly(state.root()?, path),
            RootfsStep::MaskPath { path, label } => {
                let (root, masks) = state.root_and_masks()?;
                masks.hide(root, path, label.as_ref())
            }
            RootfsStep::OpenConsole { size, bind } => {
                let master = terminal::open_console(state.root()?, *size, *bind)?;
                self.channel.send_fd(InitSync::Console, master.as_fd()).context("send the pty master")
            }
            RootfsStep::HideHostProcfs => {
                state.procfs()?;
                let procfs = state.procfs.as_ref().context("there is no procfs")?;
                old_root::leave(state.root.as_ref().context(NO_ROOT)?.as_fd(), procfs)
            }
            RootfsStep::EnterRoot { how } => state.root()?.enter(*how),
            RootfsStep::SetRootPropagation { attributes } => {
                mounts::change(state.root()?.as_fd(), attributes)
            }
            RootfsStep::RemountRootReadonly => {
                mounts::change(state.root()?.as_fd(), &Attributes::readonly(false))
            }
            RootfsStep::CloseRoot => {
                (state.root, state.masks) = (None, Masks::default());
                state.handles.clear();
                Ok(())
            }
        }
    }
}

impl State {
    /// Moves a handle out of its slot.
    fn take(&mut self, slot: FdSlot) -> Result<OwnedFd> {
        self.handles.get_mut(slot.0).and_then(Option::take).context(NEVER_OPENED)
    }

    fn hold(&mut self, dir: OwnedFd) {
        self.root = Some(Root::new(dir));
    }

    fn root(&mut self) -> Result<&mut Root> {
        self.root.as_mut().context(NO_ROOT)
    }

    fn root_and_masks(&mut self) -> Result<(&mut Root, &mut Masks)> {
        Ok((self.root.as_mut().context(NO_ROOT)?, &mut self.masks))
    }

    /// Where a node or link belongs: the handle on the directory, and its name there.
    fn parent<'p>(&mut self, path: &'p ContainerPath) -> Result<(BorrowedFd<'_>, &'p str)> {
        self.parent.of(self.root.as_ref().context(NO_ROOT)?, path)
    }
}

/// The copy of the host's tree receives the host's mounts and propagates none back.
fn make_root_slave() -> Result<()> {
    let top = open_path(Path::new("/"))?;
    linux::mount::set_attributes(top, 0, 0, libc::MS_SLAVE, true).context("mount_setattr")
}

fn attach_root(state: &mut State, tree: OwnedFd, at: &Path) -> Result<()> {
    linux::mount::attach(&tree, open_path(at)?).context("move_mount")?;
    state.hold(tree);
    Ok(())
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}
