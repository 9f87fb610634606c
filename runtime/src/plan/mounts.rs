//! The `mounts` of config.json (config.md#mounts) as steps.

use std::path::{Path, PathBuf};

use ::cgroup::layout::{Hierarchy, Version};
use anyhow::{Result, bail};

use super::attributes::{Attributes, Propagation};
use super::draft::Draft;
use super::path::ContainerPath;
use super::step::{FdSlot, IdMap, Mount, Parameter, RootfsStep};
use super::{id_maps, labels};
use crate::spec::{self, NamespaceKind};

/// What the options of one mount mean together.
#[derive(Default)]
struct Options {
    attributes: Attributes,
    /// Some(recursive) for `bind` and `rbind`.
    bind: Option<bool>,
    remount: bool,
    /// Some(recursive) for `idmap` and `ridmap`.
    id_map: Option<bool>,
    copy_up: bool,
    parameters: Vec<Parameter>,
}

/// Flags of the filesystem rather than of the mount, as fsconfig(2) spells them, and those that say nothing there:
/// `silent` and `loud` only tune the kernel's log, `iversion` became the filesystem's own affair.
const SUPERBLOCK: &[&str] = &["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"];
const SAYS_NOTHING: &[&str] = &["defaults", "silent", "loud", "iversion", "noiversion"];

/// Filesystems whose superblock is the kernel's own or is shared between mounts: read-only is the mount's affair.
const PSEUDO: &[&str] = &["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Options that mean more than an attribute, and those two kinds.
pub(super) const OPTIONS: [&[&str]; 3] =
    [&["bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"], SUPERBLOCK, SAYS_NOTHING];

fn options(mount: &spec::Mount<'_>, at: &str) -> Result<Options> {
    let mut o = Options::default();
    for option in &mount.options {
        match &**option {
            "bind" => o.bind = Some(false),
            "rbind" => o.bind = Some(true),
            "remount" => o.remount = true,
            "tmpcopyup" => o.copy_up = true,
            "idmap" => o.id_map = Some(false),
            "ridmap" => o.id_map = Some(true),
            word if SAYS_NOTHING.contains(&word) => {}
            word if SUPERBLOCK.contains(&word) => o.parameters.push(Parameter::Flag(word.to_owned())),
            word if o.attributes.take(word) => {}
            word => o.parameters.push(match word.split_once('=') {
                Some((key, value)) => Parameter::Value(key.to_owned(), value.to_owned()),
                None => Parameter::Flag(word.to_owned()),
            }),
        }
    }
    if &*mount.kind == "bind" && o.bind.is_none() {
        o.bind = Some(false);
    }
    if o.copy_up && &*mount.kind != "tmpfs" {
        bail!("{at}.options: tmpcopyup works on a tmpfs only, and this is {:?}", &*mount.kind);
    }
    Ok(o)
}

/// What becomes of /dev.
#[derive(Default)]
pub(super) struct Dev {
    /// It is a mount of the host's.
    pub(super) is_bound: bool,
    /// Changes of it that have to wait until it is filled.
    pub(super) after_nodes: Vec<RootfsStep>,
}

/// Adds the steps of every mount. Sources of bind mounts are cloned by the host: inside a user namespace the process may
/// not be able to reach them.
pub(super) fn mounts(draft: &mut Draft<'_>) -> Result<Dev> {
    let mut dev = Dev::default();
    for (n, mount) in draft.spec.mounts.iter().enumerate() {
        let at = format!("mounts[{n}]");
        if mount.destination.is_empty() {
            bail!("{at}.destination: missing");
        }
        let options = options(mount, &at)?;
        let is_bind = options.bind.is_some() && !options.remount;
        let id_map = id_maps::of_mount(draft, mount, options.id_map, is_bind, &at)?;
        let target = ContainerPath::new(&mount.destination);
        if target.as_str() == "/" && !options.remount {
            bail!("{at}.destination: \"/\" would hide root.path; use root.path for the root filesystem");
        }
        match (&*mount.kind, options.bind) {
            _ if options.remount => {
                draft.step(RootfsStep::Remount { target, attributes: options.attributes, property: at })
            }
            (_, Some(recursive)) => {
                dev.is_bound |= target.as_str() == "/dev";
                bind(draft, mount, target, options.attributes, recursive, id_map, at)?;
            }
            ("cgroup" | "cgroup2", None) => cgroup(draft, target, options)?,
            ("sysfs", None)
                if draft.namespaces.has_user() && !draft.namespaces.has(NamespaceKind::Network) =>
            {
                host_sysfs(draft, target, options.attributes, at);
            }
            ("", None) => bail!("{at}.type: missing; without it, options must contain bind or rbind"),
            _ => dev.after_nodes.extend(filesystem(draft, mount, target, options, at)?),
        }
    }
    Ok(dev)
}

/// Returns what has to wait until /dev is filled.
fn filesystem(
    draft: &mut Draft<'_>,
    mount: &spec::Mount<'_>,
    target: ContainerPath,
    mut options: Options,
    at: String,
) -> Result<Option<RootfsStep>> {
    let mut after_nodes = None;
    // A read-only /dev must first get its nodes (runc does the same), and a copied-up tmpfs its copy.
    let late = (target.as_str() == "/dev" || options.copy_up) && options.attributes.take_readonly();
    if options.attributes.own.set & libc::MOUNT_ATTR_RDONLY != 0 && !PSEUDO.contains(&&*mount.kind) {
        options.parameters.push(Parameter::Flag("ro".to_owned()));
    }
    if late && target.as_str() == "/dev" {
        after_nodes = Some(RootfsStep::Remount {
            target: target.clone(),
            attributes: Attributes::readonly(false),
            property: at.clone(),
        });
    } else if late {
        options.attributes.take("ro");
    }
    let labelled = |p: &Parameter| matches!(p, Parameter::Value(key, _) if key.ends_with("context"));
    if !options.parameters.iter().any(labelled) {
        options.parameters.extend(labels::of_mount(draft, &mount.kind)?);
    }
    draft.step(RootfsStep::Mount(Mount {
        kind: mount.kind.to_string(),
        source: mount.source.to_string(),
        parameters: options.parameters,
        attributes: options.attributes,
        target,
        copy_up: options.copy_up,
        property: at,
    }));
    Ok(after_nodes)
}

fn bind(
    draft: &mut Draft<'_>,
    mount: &spec::Mount<'_>,
    target: ContainerPath,
    mut attributes: Attributes,
    recursive: bool,
    id_map: Option<IdMap>,
    at: String,
) -> Result<()> {
    if mount.source.is_empty() {
        bail!("{at}.source: missing; a bind mount needs one");
    }
    let source = draft.bundle.join(&*mount.source);
    let slot = clone_mount(draft, &source, recursive, &mut attributes, id_map, format!("{at}.source"));
    draft.step(RootfsStep::BindMount { slot, source, target, property: at });
    Ok(())
}

fn clone_mount(
    draft: &mut Draft<'_>,
    source: &Path,
    recursive: bool,
    attributes: &mut Attributes,
    id_map: Option<IdMap>,
    property: String,
) -> FdSlot {
    // The copy is made in the host's mount namespace, so it would stay a peer of a shared source. As a slave it
    // receives the host's mounts and propagates none back, unless the document asks for more.
    if attributes.propagation.is_empty() {
        attributes.propagation.push((Propagation::Slave, true));
    }
    draft.clone_mount(source.to_owned(), recursive, attributes.clone(), id_map, property)
}

/// `cgroup` shows the container's own cgroups: one v2 mount, or a tmpfs with one mount a hierarchy, as on the host.
fn cgroup(draft: &mut Draft<'_>, target: ContainerPath, mut options: Options) -> Result<()> {
    let all: Vec<(Hierarchy, PathBuf)> =
        draft.facts.cgroups.hierarchies.iter().cloned().zip(draft.recorded.cgroups.iter().cloned()).collect();
    options.parameters.clear();
    if !draft.facts.undelegated.hierarchies.is_empty() {
        undelegated_cgroup(draft, target, options.attributes);
        return Ok(());
    }
    if let [(only, dir)] = &all[..]
        && only.version == Version::V2
    {
        own_cgroup(draft, only, dir, target, &options.attributes);
        return Ok(());
    }
    let readonly = options.attributes.take_readonly();
    let mode = Parameter::Value("mode".to_owned(), "755".to_owned());
    let label = labels::of_mount(draft, "tmpfs")?;
    draft.step(RootfsStep::Mount(Mount {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        parameters: [mode].into_iter().chain(label).collect(),
        attributes: options.attributes.clone(),
        target: target.clone(),
        copy_up: false,
        property: String::new(),
    }));
    if readonly {
        options.attributes.take("ro");
    }
    for (hierarchy, dir) in &all {
        let name = hierarchy.mount.file_name().and_then(|n| n.to_str()).unwrap_or("cgroup");
        let below = ContainerPath::new(&format!("{target}/{name}"));
        own_cgroup(draft, hierarchy, dir, below, &options.attributes);
        for controller in
            hierarchy.controllers.iter().filter(|c| hierarchy.version == Version::V1 && c.as_str() != name)
        {
            if !controller.contains('=') {
                let path = ContainerPath::new(&format!("{target}/{controller}"));
                draft.step(RootfsStep::Symlink { path, to: name.to_owned() });
            }
        }
    }
    if readonly {
        let attributes = Attributes::readonly(false);
        draft.step(RootfsStep::Remount { target, attributes, property: String::new() });
    }
    Ok(())
}

/// A sysfs shows the network namespace, and mounting one takes rights over it: a user namespace without a network of
/// its own gets the host's (crun does the same).
fn host_sysfs(draft: &mut Draft<'_>, target: ContainerPath, mut attributes: Attributes, at: String) {
    let slot = clone_mount(draft, Path::new("/sys"), true, &mut attributes, None, at.clone());
    draft.step(RootfsStep::BindMount { slot, source: "/sys".into(), target, property: at });
}

/// The container's processes stay in a cgroup that is not its own, which it must not be able to change
/// (CVE-2023-25809).
fn undelegated_cgroup(draft: &mut Draft<'_>, target: ContainerPath, mut attributes: Attributes) {
    attributes.take("ro");
    let all = &draft.facts.undelegated.hierarchies;
    if draft.namespaces.makes_cgroup() && all.len() == 1 && all[0].version == Version::V2 {
        draft.step(RootfsStep::Mount(Mount {
            kind: "cgroup2".to_owned(),
            source: "cgroup".to_owned(),
            parameters: Vec::new(),
            attributes,
            target,
            copy_up: false,
            property: String::new(),
        }));
        return;
    }
    attributes.take("rro");
    // In a copy from another user's namespace they are locked (mount_namespaces(7)), and systemd's tmpfs above v1's
    // hierarchies has others than the `relatime` that every config asks of its cgroup mount.
    attributes.leave_access_times();
    let source = Path::new("/sys/fs/cgroup");
    let slot = clone_mount(draft, source, true, &mut attributes, None, String::new());
    draft.step(RootfsStep::BindMount { slot, source: source.to_owned(), target, property: String::new() });
}

fn own_cgroup(
    draft: &mut Draft<'_>,
    hierarchy: &Hierarchy,
    dir: &Path,
    target: ContainerPath,
    attributes: &Attributes,
) {
    let v2 = hierarchy.version == Version::V2;
    let whole = draft.namespaces.makes_cgroup() || (v2 && !draft.namespaces.has_user());
    if !whole {
        // Without a cgroup namespace the root of a fresh mount would be the host's: bind the container's own group.
        // So would v2's, but there runc and crun show the host's tree, and engines rely on it.
        let mut attributes = attributes.clone();
        let slot = clone_mount(draft, dir, true, &mut attributes, None, String::new());
        draft.step(RootfsStep::BindMount { slot, source: dir.to_owned(), target, property: String::new() });
        return;
    }
    let parameters = match v2 {
        true => Vec::new(),
        false => hierarchy
            .controllers
            .iter()
            .flat_map(|c| match c.split_once('=') {
                Some((key, value)) => {
                    vec![
                        Parameter::Flag("none".to_owned()),
                        Parameter::Value(key.to_owned(), value.to_owned()),
                    ]
                }
                None => vec![Parameter::Flag(c.clone())],
            })
            .collect(),
    };
    draft.step(RootfsStep::Mount(Mount {
        kind: if v2 { "cgroup2" } else { "cgroup" }.to_owned(),
        source: "cgroup".to_owned(),
        parameters,
        attributes: attributes.clone(),
        target,
        copy_up: false,
        property: String::new(),
    }));
}
