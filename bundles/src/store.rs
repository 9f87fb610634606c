//! Layers that bundles share, each in a directory as overlayfs wants it.
//!
//! ```text
//! STORE/            flock(2)ed while a layer is added
//!   ID/             a layer on those below it; ID is made of all their digests, as containerd's chain id is
//!   ID.partial      one that is being made
//! BUNDLE/
//!   layers          the store, then the layers from the top down
//!   rootfs          where `mount` shows them
//!   upper, work     what the bundle's container changes
//! ```
//!
//! A layer may speak of what lies below (a hard link, a path through a symbolic link), so it is applied to an overlay of
//! those, in a mount namespace of this process's own; what the kernel then has in the upper directory is the layer.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use linux::lock;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount as mount2, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};
use sha2::{Digest, Sha256};

use crate::digest::Expected;
use crate::tree::Tree;
use crate::unpack::{is_dir, make_dir};

/// What names the layers of a bundle.
const LAYERS: &str = "layers";
/// Hexadecimal digits of an ID. mount(2) takes a page of options: so 127 layers fit, the most that docker makes.
const ID_LENGTH: usize = 24;

/// A directory of layers.
pub struct Store(PathBuf);

/// A store that nobody else adds to.
pub struct Locked {
    root: PathBuf,
    /// Whose end ends the lock.
    _lock: File,
    has_own_namespace: bool,
}

/// Layers on one another.
#[derive(Default)]
pub struct Stack {
    /// From the top down.
    ids: Vec<String>,
    chain: String,
}

impl Store {
    /// The store at `root`; nothing is touched yet.
    pub fn new(root: PathBuf) -> Store {
        Store(root)
    }

    /// Waits until nobody else adds to it.
    ///
    /// # Errors
    /// The caller is not root; the directory can't be made.
    pub fn lock(&self) -> Result<Locked> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "--overlay takes root's rights: without it the layers make one directory, for anybody"
        );
        // Programs with set-user-ID of all images lie here: nobody else passes.
        let make = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        make.with_context(|| format!("make {}", self.0.display()))?;
        let root = fs::canonicalize(&self.0)?;
        let file = File::open(&root).with_context(|| format!("open {}", root.display()))?;
        lock::lock(&file).context("flock")?;
        Ok(Locked { root, _lock: file, has_own_namespace: false })
    }
}

impl Locked {
    /// The stack with one layer more, which `fill` applies to what it is given unless the store has it.
    ///
    /// # Errors
    /// What `fill` says; nothing of the layer is left.
    pub fn add(
        &mut self,
        below: Stack,
        diff_id: &Expected,
        fill: impl FnOnce(&Tree) -> Result<()>,
    ) -> Result<Stack> {
        let stack = below.with(diff_id);
        let id = stack.ids.first().context("it has a layer now")?;
        let (dir, partial) = (self.root.join(id), self.root.join(format!("{id}.partial")));
        if is_dir(&dir)? {
            return Ok(stack);
        }
        // Somebody was killed here.
        if let Err(e) = fs::remove_dir_all(&partial)
            && e.kind() != ErrorKind::NotFound
        {
            return Err(e).with_context(|| format!("remove {}", partial.display()));
        }
        let names = ["", "upper", "work", "view"];
        names.iter().try_for_each(|name| make_dir(&partial.join(name)))?;
        let filled = self.fill(&below, &partial, fill).and_then(|()| {
            fs::rename(partial.join("upper"), &dir).with_context(|| format!("make {}", dir.display()))
        });
        // What stays is removed when the layer is wanted again, or is nobody's.
        let _ = fs::remove_dir_all(&partial);
        filled.map(|()| stack)
    }

    fn fill(&mut self, below: &Stack, partial: &Path, fill: impl FnOnce(&Tree) -> Result<()>) -> Result<()> {
        // The lowest is as it is.
        if below.ids.is_empty() {
            return fill(&Tree::open(&partial.join("upper"))?);
        }
        let view = partial.join("view");
        self.make_like(&below.ids[0], &partial.join("upper"))?;
        self.leave_namespace()?;
        mount(&self.root, &below.ids, Some((&partial.join("upper"), &partial.join("work"))), &view)?;
        let filled = Tree::open(&view).and_then(|tree| fill(&tree));
        umount2(&view, MntFlags::empty()).context("umount the overlay")?;
        filled
    }

    /// Shows `look` all layers.
    ///
    /// # Errors
    /// What `look` says.
    pub fn look_into<T>(&mut self, stack: &Stack, look: impl FnOnce(&Tree) -> Result<T>) -> Result<T> {
        if let [only] = &stack.ids[..] {
            return look(&Tree::open(&self.root.join(only))?);
        }
        ensure!(!stack.ids.is_empty(), "the image has no layer");
        self.leave_namespace()?;
        let view = self.root.join("view.partial");
        if !is_dir(&view)? {
            make_dir(&view)?;
        }
        mount(&self.root, &stack.ids, None, &view)?;
        let seen = Tree::open(&view).and_then(|tree| look(&tree));
        umount2(&view, MntFlags::empty()).context("umount the overlay")?;
        // It is used again.
        let _ = fs::remove_dir(&view);
        seen
    }

    /// The root of an overlay is as its upper directory is: so that is as the layer's below.
    fn make_like(&self, id: &str, upper: &Path) -> Result<()> {
        let like = fs::metadata(self.root.join(id))?;
        std::os::unix::fs::chown(upper, Some(like.uid()), Some(like.gid()))?;
        fs::set_permissions(upper, like.permissions())?;
        let times = fs::FileTimes::new().set_accessed(like.accessed()?).set_modified(like.modified()?);
        File::open(upper)?.set_times(times)?;
        Ok(())
    }

    /// Writes down which layers a bundle has, and makes its own directories.
    ///
    /// # Errors
    /// They can't be written.
    pub fn furnish(&self, stack: &Stack, bundle: &Path) -> Result<()> {
        ["rootfs", "upper", "work"].iter().try_for_each(|name| make_dir(&bundle.join(name)))?;
        self.make_like(stack.ids.first().context("the image has no layer")?, &bundle.join("upper"))?;
        let lines = std::iter::once(self.root.display().to_string()).chain(stack.ids.iter().cloned());
        let text: String = lines.map(|line| line + "\n").collect();
        fs::write(bundle.join(LAYERS), text).context("write layers")
    }

    /// What is mounted from here on is seen by nobody else, and gone when this process is.
    fn leave_namespace(&mut self) -> Result<()> {
        if !self.has_own_namespace {
            unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount2(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make mounts private")?;
            self.has_own_namespace = true;
        }
        Ok(())
    }
}

impl Stack {
    fn with(&self, diff_id: &Expected) -> Stack {
        // config.md#layer-chainid
        let chain = match self.chain.is_empty() {
            true => diff_id.to_string(),
            false => {
                let digest = Sha256::digest(format!("{} {diff_id}", self.chain));
                format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
        };
        let id = chain.split_once(':').map_or("", |(_, hex)| hex)[..ID_LENGTH].to_owned();
        Stack { ids: std::iter::once(id).chain(self.ids.iter().cloned()).collect(), chain }
    }
}

/// Shows a bundle's layers at its `rootfs`, where its container can write.
///
/// # Errors
/// It has none, is mounted already, or the store has lost one.
pub fn mount_bundle(bundle: &Path) -> Result<()> {
    let bundle = fs::canonicalize(bundle).with_context(|| bundle.display().to_string())?;
    let text = match fs::read_to_string(bundle.join(LAYERS)) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!("{} was not made by unpack --overlay: it has no layers to mount", bundle.display())
        }
        other => other.with_context(|| format!("read {}/{LAYERS}", bundle.display()))?,
    };
    let mut lines = text.lines();
    let store = PathBuf::from(lines.next().context("layers is empty")?);
    let ids: Vec<String> = lines.map(str::to_owned).collect();
    for layer in ids.iter().map(|id| store.join(id)) {
        let is_there = is_dir(&layer)?;
        ensure!(is_there, "{} is gone, which the bundle is made of; unpack the image again", layer.display());
    }
    let rootfs = bundle.join("rootfs");
    ensure!(!is_mounted(&rootfs)?, "{} is mounted already", rootfs.display());
    mount(&store, &ids, Some((&bundle.join("upper"), &bundle.join("work"))), &rootfs)
}

/// The opposite.
///
/// # Errors
/// It isn't mounted, or somebody uses it.
pub fn umount_bundle(bundle: &Path) -> Result<()> {
    let bundle = fs::canonicalize(bundle).with_context(|| bundle.display().to_string())?;
    let rootfs = bundle.join("rootfs");
    ensure!(is_mounted(&rootfs)?, "{} is not mounted", rootfs.display());
    match umount2(&rootfs, MntFlags::UMOUNT_NOFOLLOW) {
        Err(Errno::EBUSY) => bail!("{} is in use; is its container running?", rootfs.display()),
        other => other.with_context(|| format!("umount {}", rootfs.display())),
    }
}

fn is_mounted(dir: &Path) -> Result<bool> {
    let device = |path: &Path| Ok::<_, anyhow::Error>(nix::sys::stat::stat(path)?.st_dev);
    let parent = dir.parent().unwrap_or(dir);
    Ok(device(dir)? != device(parent)?)
}

/// Mounts an overlay. Its options name the lower directories relative to the store, for brevity.
fn mount(store: &Path, ids: &[String], own: Option<(&Path, &Path)>, to: &Path) -> Result<()> {
    let mut options = format!("lowerdir={}", ids.join(":"));
    if let Some((upper, work)) = own {
        for path in [upper, work] {
            let odd = path.as_os_str().as_encoded_bytes().iter().any(|byte| b",:\\".contains(byte));
            ensure!(!odd, "{}: overlayfs takes no path with a comma, colon or backslash", path.display());
        }
        options += &format!(",upperdir={},workdir={}", upper.display(), work.display());
    }
    let here = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    chdir(store).with_context(|| store.display().to_string())?;
    let mounted = mount2(Some("overlay"), to, Some("overlay"), MsFlags::empty(), Some(OsStr::new(&options)));
    fchdir(here)?;
    mounted.with_context(|| format!("mount an overlay on {}", to.display()))
}
