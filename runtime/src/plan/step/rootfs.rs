//! Steps of the new process about its tree of mounts.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Serialize;

use super::text::clone_mount;
use super::types::{FdSlot, Mount, Node, Parameter, RootEntry};
use crate::plan::attributes::Attributes;
use crate::plan::path::ContainerPath;

/// Of the new process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "fields are named for what they are")]
pub enum RootfsStep {
    /// What happens to mounts inside stays inside.
    MakeRootSlave,
    /// As the host's step of that name, where only the new process may do it.
    CloneMount { source: PathBuf, recursive: bool, attributes: Attributes, slot: FdSlot, property: String },
    /// The root of the mount namespace that was joined.
    OpenRoot,
    /// The root as CRIU wants it: a mount on a directory of the host's (`man criu`, `--root`).
    AttachForCriu { slot: FdSlot, at: PathBuf },
    /// CRIU binds the host's devices anew, and how they are mounted there is how the container has them.
    ReadonlyForCriu { path: PathBuf },
    /// With all that is mounted on it.
    Unmount { at: PathBuf },
    /// Without a mount namespace of its own there is no copy to attach.
    UseRoot { slot: FdSlot },
    /// Attaches the copy of the root directory's mount, and takes hold of it.
    AttachRoot { slot: FdSlot, source: PathBuf },
    /// A filesystem of its own.
    Mount(Mount),
    /// Attaches a copy of a mount of the host's.
    BindMount { slot: FdSlot, source: PathBuf, target: ContainerPath, property: String },
    /// Changes the attributes of what is mounted there.
    Remount { target: ContainerPath, attributes: Attributes, property: String },
    /// A device or fifo of the container's own.
    Mknod { path: ContainerPath, node: Node, property: String },
    /// `readonly`: the container's root could change the host's node.
    BindDevice { path: ContainerPath, node: Node, readonly: bool, property: String },
    /// Those that programs expect in /dev.
    Symlink { path: ContainerPath, to: String },
    /// Where the program is to begin.
    Mkdir { path: ContainerPath, property: String },
    /// linux.readonlyPaths.
    ReadonlyPath { path: ContainerPath },
    /// `label`: how the tmpfs that hides a directory is labelled.
    MaskPath { path: ContainerPath, label: Option<Parameter> },
    /// `bind`: /dev/console is it, too.
    OpenConsole { size: Option<(u16, u16)>, bind: bool },
    /// `--no-pivot`: the host's tree stays below the root, where a whole procfs could be found (mount_namespaces(7)).
    HideHostProcfs,
    /// From here on the host's tree is out of reach.
    EnterRoot { how: RootEntry },
    /// linux.rootfsPropagation.
    SetRootPropagation { attributes: Attributes },
    /// root.readonly.
    RemountRootReadonly,
    /// Those on the root and on all that the host has opened for it. What comes next may be a limit on open files, below
    /// the numbers of all that was open for the root's making.
    CloseRoot,
}

impl Display for RootfsStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            RootfsStep::MakeRootSlave => f.write_str("make / a slave mount, recursively"),
            RootfsStep::CloneMount { source, recursive, attributes, .. } => {
                clone_mount(f, source, *recursive, attributes)
            }
            RootfsStep::OpenRoot => f.write_str("open the root"),
            RootfsStep::AttachForCriu { at, .. } => write!(f, "attach the root at {} for criu", at.display()),
            RootfsStep::ReadonlyForCriu { path } => write!(f, "bind {} read-only for criu", path.display()),
            RootfsStep::Unmount { at } => write!(f, "unmount {}, recursively", at.display()),
            RootfsStep::UseRoot { .. } => f.write_str("use the root without a mount namespace"),
            RootfsStep::AttachRoot { source, .. } => write!(f, "attach {} as the root", source.display()),
            RootfsStep::Mount(mount) => mount.fmt(f),
            RootfsStep::BindMount { source, target, .. } => {
                write!(f, "bind mount {} on {target}", source.display())
            }
            RootfsStep::Remount { target, attributes, .. } => write!(f, "remount {target}{attributes}"),
            RootfsStep::Mknod { path, node, .. } => write!(f, "mknod {path} {node}"),
            RootfsStep::BindDevice { path, node, readonly, .. } => {
                write!(f, "bind mount the host's {path} {node}{}", if *readonly { " (ro)" } else { "" })
            }
            RootfsStep::Symlink { path, to } => write!(f, "symlink {path} to {to}"),
            RootfsStep::Mkdir { path, .. } => write!(f, "mkdir {path}"),
            RootfsStep::ReadonlyPath { path } => write!(f, "make {path} read-only"),
            RootfsStep::MaskPath { path, .. } => write!(f, "mask {path}"),
            RootfsStep::OpenConsole { size, bind } => {
                f.write_str("open a pty")?;
                size.iter().try_for_each(|(h, w)| write!(f, " of {w}x{h}"))?;
                f.write_str(if *bind { ", bind mount it on /dev/console" } else { "" })
            }
            RootfsStep::HideHostProcfs => f.write_str("unmount or cover the host's procfs and sysfs"),
            RootfsStep::EnterRoot { how } => f.write_str(match how {
                RootEntry::PivotRoot => "pivot_root into the root",
                RootEntry::Chroot => "chroot into the root",
            }),
            RootfsStep::SetRootPropagation { attributes } => write!(f, "set propagation of /{attributes}"),
            RootfsStep::RemountRootReadonly => f.write_str("remount / read-only"),
            RootfsStep::CloseRoot => f.write_str("close the handles on the root"),
        }
    }
}

impl RootfsStep {
    /// The JSON path that asked for the step; empty when none did.
    pub fn json_path(&self) -> &str {
        match self {
            RootfsStep::Mount(Mount { property, .. })
            | RootfsStep::CloneMount { property, .. }
            | RootfsStep::BindMount { property, .. }
            | RootfsStep::Remount { property, .. }
            | RootfsStep::Mknod { property, .. }
            | RootfsStep::BindDevice { property, .. }
            | RootfsStep::Mkdir { property, .. } => property,
            RootfsStep::AttachRoot { .. } | RootfsStep::AttachForCriu { .. } => "root.path",
            RootfsStep::ReadonlyPath { .. } => "linux.readonlyPaths",
            RootfsStep::MaskPath { .. } => "linux.maskedPaths",
            RootfsStep::SetRootPropagation { .. } => "linux.rootfsPropagation",
            RootfsStep::RemountRootReadonly => "root.readonly",
            RootfsStep::MakeRootSlave
            | RootfsStep::OpenRoot
            | RootfsStep::ReadonlyForCriu { .. }
            | RootfsStep::Unmount { .. }
            | RootfsStep::UseRoot { .. }
            | RootfsStep::Symlink { .. }
            | RootfsStep::OpenConsole { .. }
            | RootfsStep::HideHostProcfs
            | RootfsStep::EnterRoot { .. }
            | RootfsStep::CloseRoot => "",
        }
    }
}
