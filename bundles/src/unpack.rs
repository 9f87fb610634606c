//! From an image to a bundle.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

use crate::apply::{Limits, Target};
use crate::conversion;
use crate::image::{self, Image};
use crate::progress::Progress;
use crate::source::Source;
use crate::store::{Stack, Store};
use crate::stream;
use crate::tree::Tree;

/// What is unpacked, and how.
pub struct UnpackOptions<'a> {
    /// The image's directory or archive.
    pub image: &'a Path,
    /// Its name or tag, where there are several.
    pub name: Option<&'a str>,
    /// `os/architecture`
    pub platform: &'a str,
    /// What replaces the image's Cmd.
    pub args: &'a [String],
    /// How much may come out of it.
    pub limits: Limits,
}

/// Makes a bundle whose root filesystem is a directory of its own.
///
/// # Errors
/// One line that names the blob and the entry; nothing is left behind.
pub fn flat(options: &UnpackOptions<'_>, bundle: &Path) -> Result<()> {
    let (source, image) = open(options)?;
    build(bundle, |dir| {
        let rootfs = dir.join("rootfs");
        make_dir(&rootfs)?;
        let tree = Tree::open(&rootfs)?;
        let mut target = Target::new(&tree, options.limits);
        let progress = progress(&image);
        for layer in &image.layers {
            stream::of(&source, layer, &progress, |archive| target.apply(archive))
                .with_context(|| format!("layer {}", layer.name))?;
        }
        if target.skipped > 0 {
            eprintln!("ampoule-bundle: {} devices were left out: only root makes them", target.skipped);
        }
        write_config(dir, &config(&image, &tree, options)?)
    })
}

/// Makes a bundle whose layers are in the store; its root filesystem is there once it is mounted.
///
/// # Errors
/// As [`flat`]; layers that were complete stay in the store.
pub fn overlay(options: &UnpackOptions<'_>, store: &Store, bundle: &Path) -> Result<()> {
    let (source, image) = open(options)?;
    let mut store = store.lock()?;
    let mut stack = Stack::default();
    let progress = progress(&image);
    let mut limits = options.limits;
    for layer in &image.layers {
        stack = store
            .add(stack, &layer.diff_id, |tree| {
                let mut target = Target::new(tree, limits);
                stream::of(&source, layer, &progress, |archive| target.apply(archive))?;
                limits = target.left();
                Ok(())
            })
            .with_context(|| format!("layer {}", layer.name))?;
    }
    let spec = store.look_into(&stack, |tree| config(&image, tree, options))?;
    build(bundle, |dir| {
        store.furnish(&stack, dir)?;
        write_config(dir, &spec)
    })
}

fn open(options: &UnpackOptions<'_>) -> Result<(Source, Image)> {
    // Modes are as the image has them.
    umask(Mode::empty());
    let image = || -> Result<(Source, Image)> {
        let source = Source::open(options.image)?;
        let image = image::choose(image::all(&source)?, options.name, options.platform)?;
        // Said before the work of a minute, not after it.
        conversion::command(&image.configuration, options.args)?;
        Ok((source, image))
    };
    image().with_context(|| options.image.display().to_string())
}

fn progress(image: &Image) -> Progress {
    Progress::new(image.layers.iter().map(|layer| layer.size).sum())
}

fn config(image: &Image, tree: &Tree, options: &UnpackOptions<'_>) -> Result<Value> {
    let rootless = !nix::unistd::geteuid().is_root();
    conversion::convert(&image.configuration, tree, options.args, rootless)
}

fn write_config(dir: &Path, spec: &Value) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(dir.join("config.json"));
    file.and_then(|mut file| writeln!(file, "{spec:#}")).context("write config.json")
}

/// Whether a directory is there.
pub(crate) fn is_dir(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        other => Ok(other.with_context(|| format!("stat {}", path.display()))?.is_dir()),
    }
}

/// The umask is 0 here.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o755).create(path).with_context(|| format!("make {}", path.display()))
}

/// Makes a directory under another name first: it is there whole or not at all.
fn build(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    match fs::read_dir(to) {
        Ok(mut entries) => ensure!(entries.next().is_none(), "{} exists and is not empty", to.display()),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e).with_context(|| to.display().to_string()),
    }
    let partial = partial(to)?;
    make_dir(&partial)?;
    let made = fill(&partial)
        .and_then(|()| fs::rename(&partial, to).with_context(|| format!("make {}", to.display())));
    if made.is_err() {
        discard(&partial);
    }
    made
}

/// `DIR` as `DIR.partial`; one that somebody was killed in is in the way, and told.
fn partial(to: &Path) -> Result<PathBuf> {
    let name = to.file_name().with_context(|| format!("{} is no name for a bundle", to.display()))?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(to.with_file_name(name))
}

/// After an error, which is the one to report. An ordinary user can't remove what is in his own read-only directories,
/// until they are no more.
fn discard(dir: &Path) {
    if fs::remove_dir_all(dir).is_ok() {
        return;
    }
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        let _ = fs::set_permissions(&dir, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    let _ = fs::remove_dir_all(dir);
}
