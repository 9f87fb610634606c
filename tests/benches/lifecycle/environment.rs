//! Where it is measured: a private mount namespace that shows one cgroup layout, and the bundle.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ampoule_tests::{Scratch, cgroups_named, default_spec, mountinfo, on_path, remove_cgroup};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::command::Interrupts;

const CGROUPS: &str = "/sys/fs/cgroup";
const NOTHING: Option<&str> = None;

/// Which cgroups the host seems to have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    V1,
    V2,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::V1 => "v1",
            Layout::V2 => "v2",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Layout::V1 => "pure v1",
            Layout::V2 => "pure v2",
        }
    }
}

/// Where a measurement is taken: a namespace that shows a layout.
pub(crate) struct Environment<'a> {
    pub(crate) namespace: &'a MountNamespace,
    pub(crate) layout: Layout,
    pub(crate) interrupts: &'a Interrupts,
}

impl Environment<'_> {
    pub(crate) fn bundle(&self, payload: Payload) -> PathBuf {
        self.namespace.bundle(self.layout, payload)
    }
}

/// What runs in the container.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload {
    /// What is timed.
    True,
    /// Ends with a code that can only come from inside: a program that does nothing is very fast.
    Proof,
}

impl Payload {
    pub(crate) fn args(self) -> &'static [&'static str] {
        match self {
            Payload::True => &["/bin/true"],
            Payload::Proof => &["/bin/busybox", "sh", "-c", "exit 42"],
        }
    }

    pub(crate) fn exit_code(self) -> i32 {
        match self {
            Payload::True => 0,
            Payload::Proof => 42,
        }
    }
}

/// A v1 hierarchy: the name of its directory, and where it was mounted.
struct Hierarchy {
    name: String,
    mounted: String,
}

/// The mount namespace with all files that a measurement needs, in one tmpfs; both die with the process.
pub(crate) struct MountNamespace {
    files: Scratch,
    hierarchies: Vec<Hierarchy>,
    id: String,
}

impl MountNamespace {
    pub(crate) fn build() -> Result<MountNamespace> {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace (the benches need root)")?;
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
            .context("make / private")?;
        let files = Scratch::new();
        mount(Some("tmpfs"), files.path(), Some("tmpfs"), MsFlags::empty(), NOTHING)
            .context("mount a tmpfs")?;
        let hierarchies = mountinfo().into_iter().filter(|m| m.kind == "cgroup").filter_map(|m| {
            let name = Path::new(&m.target).strip_prefix(CGROUPS).ok()?.to_str()?.to_owned();
            Some(Hierarchy { name, mounted: m.target })
        });
        let namespace = MountNamespace {
            hierarchies: hierarchies.collect(),
            files,
            id: format!("bench-{}", std::process::id()),
        };
        namespace.make_bundles()?;
        namespace.keep_hierarchies()?;
        Ok(namespace)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The container's id, and the name of its cgroups.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    fn bundle(&self, layout: Layout, payload: Payload) -> PathBuf {
        self.path(&format!("{}-{payload:?}", layout.name()))
    }

    /// The directory that holds a state directory per runtime.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path("pid")
    }

    /// What the last command printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    /// One root file system, and a bundle for each use of it.
    fn make_bundles(&self) -> Result<()> {
        let busybox = on_path("busybox").context("busybox is not on PATH: install busybox-static")?;
        let bin = self.rootfs().join("bin");
        fs::create_dir_all(&bin)?;
        fs::create_dir(self.state())?;
        fs::copy(busybox, bin.join("busybox")).context("copy busybox")?;
        symlink("busybox", bin.join("true"))?;
        for layout in [Layout::V1, Layout::V2] {
            for payload in [Payload::True, Payload::Proof] {
                let bundle = self.bundle(layout, payload);
                fs::create_dir(&bundle)?;
                fs::write(bundle.join("config.json"), self.config(layout, payload).to_string())?;
            }
        }
        Ok(())
    }

    /// What `runc spec` prints on such a host: on v2, with a cgroup namespace.
    fn config(&self, layout: Layout, payload: Payload) -> Value {
        let mut config = default_spec();
        config["process"]["args"] = json!(payload.args());
        config["root"]["path"] = json!(self.rootfs());
        if layout == Layout::V2 {
            let namespaces =
                config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
            namespaces.push(json!({ "type": "cgroup" }));
        }
        config
    }

    /// Binds the v1 hierarchies aside, then clears the way: runtimes read mountinfo, which lists also what
    /// lies under another mount.
    fn keep_hierarchies(&self) -> Result<()> {
        let aside = self.path("hierarchies");
        fs::create_dir(&aside)?;
        mount(Some("tmpfs"), &aside, Some("tmpfs"), MsFlags::empty(), NOTHING).context("mount a tmpfs")?;
        for Hierarchy { name, mounted } in &self.hierarchies {
            let target = aside.join(name);
            fs::create_dir(&target)?;
            mount(Some(mounted.as_str()), &target, NOTHING, MsFlags::MS_BIND, NOTHING)
                .with_context(|| format!("bind {mounted}"))?;
            for controller in name.split(',').filter(|c| c != name) {
                symlink(name, aside.join(controller))?;
            }
        }
        loop {
            match umount2(CGROUPS, MntFlags::MNT_DETACH) {
                Err(Errno::EINVAL) => return Ok(()),
                done => done.context("unmount the host's cgroups")?,
            }
        }
    }

    /// Shows a layout at the usual place, instead of what was there. Call it with V1 first.
    pub(crate) fn show(&self, layout: Layout) -> Result<()> {
        match layout {
            Layout::V1 if self.hierarchies.is_empty() => bail!("this host has no v1 hierarchy"),
            Layout::V1 => mount(Some(&self.path("hierarchies")), CGROUPS, NOTHING, MsFlags::MS_MOVE, NOTHING)
                .context("show the v1 hierarchies"),
            Layout::V2 => {
                // The v1 place, if there was one.
                let _ = umount2(CGROUPS, MntFlags::MNT_DETACH);
                mount(Some("none"), CGROUPS, Some("cgroup2"), MsFlags::empty(), NOTHING)
                    .context("mount cgroup2")
            }
        }
    }

    /// Removes the cgroups that a runtime left, and says so.
    pub(crate) fn sweep(&self) {
        for group in cgroups_named(&self.id).iter().rev() {
            eprintln!("bench: removing {}, which a runtime left", group.display());
            remove_cgroup(group);
        }
    }
}
