//! The root filesystem: device nodes, links, masked and read-only paths, and the way in.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::attributes::{Attributes, Propagation};
use super::draft::Draft;
use super::mounts::Dev;
use super::path::ContainerPath;
use super::step::{HostStep, Node, NodeKind, RootEntry, RootfsStep};
use super::{identity, labels};
use crate::spec::{Device, NamespaceKind, Process};

/// config-linux.md#default-devices: name, major, minor; all character devices of mode 0666.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// runtime-linux.md#dev-symbolic-links, and ptmx as config.md asks where devpts is mounted.
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// A detached copy of the root directory's mount, made where its path can be reached.
pub(super) fn attach(draft: &mut Draft<'_>) {
    let source = draft.rootfs.clone();
    if !draft.namespaces.has(NamespaceKind::Mount) {
        let slot = draft.slot();
        draft.pre_clone.push(HostStep::OpenRoot { path: source, slot });
        draft.step(RootfsStep::UseRoot { slot });
        return;
    }
    // As a slave it sees what the host mounts below it, and tells nothing back.
    let attributes = Attributes::propagating(Propagation::Slave, true);
    let slot = draft.clone_mount(source.clone(), true, attributes, None, "root.path".to_owned());
    draft.step(RootfsStep::AttachRoot { slot, source });
}

/// The root of a container that is there.
pub(super) fn reenter(draft: &mut Draft<'_>) {
    if draft.namespaces.has(NamespaceKind::Mount) {
        draft.step(RootfsStep::OpenRoot);
        return;
    }
    let slot = draft.slot();
    draft.pre_clone.push(HostStep::OpenRoot { path: draft.rootfs.clone(), slot });
    draft.step(RootfsStep::UseRoot { slot });
    draft.step(RootfsStep::EnterRoot { how: RootEntry::Chroot });
}

/// Default and configured devices, and the links that programs expect in /dev; then what had to wait for them.
pub(super) fn devices(draft: &mut Draft<'_>, dev: Dev) -> Result<()> {
    let mut nodes: Vec<(ContainerPath, Node, String)> = Vec::new();
    // A /dev that is bound from elsewhere is somebody else's to fill (runc leaves it alone, too).
    if !dev.is_bound {
        for (name, major, minor) in DEFAULT_DEVICES {
            let node = Node { kind: NodeKind::Character, major, minor, mode: 0o666, uid: 0, gid: 0 };
            nodes.push((ContainerPath::new(&format!("/dev/{name}")), node, String::new()));
        }
        for (n, device) in draft.spec.linux.devices.iter().enumerate() {
            let at = format!("linux.devices[{n}]");
            if !device.path.starts_with('/') {
                bail!("{at}.path: {:?} must be absolute", &*device.path);
            }
            let path = ContainerPath::new(&device.path);
            let node = node(device, &at)?;
            nodes.push((path, node, at));
        }
    }
    // A configured device replaces the default one of its path, and the last of several is meant.
    let last: BTreeMap<_, _> = nodes.iter().enumerate().map(|(n, (path, ..))| (path.clone(), n)).collect();
    // mknod(2) of a device is refused in a user namespace: there the host's own node is bound.
    let user = draft.namespaces.has_user() || draft.facts.in_user_namespace;
    // Who owns it on the host may change its mode there, too.
    let readonly = !draft.namespaces.makes(NamespaceKind::User)
        || draft.namespaces.uids.iter().any(|ids| ids.outside == 0);
    for (_, (path, node, property)) in
        nodes.into_iter().enumerate().filter(|(n, (path, ..))| last[path] == *n)
    {
        draft.step(match user && node.kind != NodeKind::Fifo {
            true => RootfsStep::BindDevice { path, node, readonly, property },
            false => RootfsStep::Mknod { path, node, property },
        });
    }
    if !dev.is_bound {
        for (path, to) in LINKS {
            draft.step(RootfsStep::Symlink { path: ContainerPath::new(path), to: to.to_owned() });
        }
    }
    draft.steps(dev.after_nodes);
    Ok(())
}

fn node(device: &Device<'_>, at: &str) -> Result<Node> {
    let kind = match &*device.kind {
        "c" | "u" => NodeKind::Character,
        "b" => NodeKind::Block,
        "p" => NodeKind::Fifo,
        other => bail!("{at}.type: {other:?}, expected c, b, u or p"),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None if kind == NodeKind::Fifo => Ok(0),
        None => bail!("{at}.{name}: missing; a device needs it"),
        Some(v) => match u32::try_from(v) {
            Ok(v) => Ok(v),
            Err(_) => bail!("{at}.{name}: {v}, expected a device number"),
        },
    };
    Ok(Node {
        kind,
        major: number("major", device.major)?,
        minor: number("minor", device.minor)?,
        // Some engines send the whole st_mode.
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: identity::id(format_args!("{at}.uid"), device.uid.unwrap_or(0))?,
        gid: identity::id(format_args!("{at}.gid"), device.gid.unwrap_or(0))?,
    })
}

/// linux.readonlyPaths and linux.maskedPaths; those that the root does not have are left out at run time.
pub(super) fn restrictions(draft: &mut Draft<'_>) -> Result<()> {
    let linux = &draft.spec.linux;
    let label = labels::of_mount(draft, "tmpfs")?;
    for (name, paths) in [("readonlyPaths", &linux.readonly_paths), ("maskedPaths", &linux.masked_paths)] {
        for (n, path) in paths.iter().enumerate() {
            if !path.starts_with('/') {
                bail!("linux.{name}[{n}]: {:?} must be absolute", &**path);
            }
            let path = ContainerPath::new(path);
            if name == "maskedPaths" && path.as_str() == "/" {
                bail!("linux.maskedPaths[{n}]: \"/\" can't be masked: nothing would be left to run");
            }
            draft.step(match name {
                "readonlyPaths" => RootfsStep::ReadonlyPath { path },
                _ => RootfsStep::MaskPath { path, label: label.clone() },
            });
        }
    }
    Ok(())
}

/// Where the program is to begin, if the root hasn't got it.
pub(super) fn working_directory(draft: &mut Draft<'_>, process: &Process<'_>) {
    let path = ContainerPath::new(&process.cwd);
    if path.as_str() != "/" {
        draft.step(RootfsStep::Mkdir { path, property: "process.cwd".to_owned() });
    }
}

/// The way in, and what can be said about the root mount only once it is the root.
pub(super) fn enter(draft: &mut Draft<'_>) -> Result<()> {
    let how = match (draft.namespaces.has(NamespaceKind::Mount), draft.options.no_pivot) {
        (true, false) => RootEntry::PivotRoot,
        (true, true) => {
            draft.step(RootfsStep::HideHostProcfs);
            RootEntry::Chroot
        }
        (false, _) => RootEntry::Chroot,
    };
    draft.step(RootfsStep::EnterRoot { how });
    let wanted = &*draft.spec.linux.rootfs_propagation;
    if !wanted.is_empty() {
        let Some((kind, recursive)) = Propagation::parse(wanted) else {
            bail!(
                "linux.rootfsPropagation: {wanted:?}, expected shared, slave, private or unbindable (or with an r before it)"
            );
        };
        draft.step(RootfsStep::SetRootPropagation { attributes: Attributes::propagating(kind, recursive) });
    }
    if draft.spec.root.as_ref().is_some_and(|r| r.readonly) {
        draft.step(RootfsStep::RemountRootReadonly);
    }
    Ok(())
}
