//! Images of others, as `ampoule-bundle` reads them.

use std::fs;
use std::path::Path;

use ampoule_bundle::apply::{Limits, Target};
use ampoule_bundle::digest::Expected;
use ampoule_bundle::image::Layer;
use ampoule_bundle::progress::Progress;
use ampoule_bundle::source::Source;
use ampoule_bundle::tree::Tree;
use ampoule_bundle::unpack::UnpackOptions;
use ampoule_bundle::{inspect, stream, unpack, users as names};
use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::guarded_dir::GuardedDir;

/// So little that what goes beyond it is seen.
const LIMITS: Limits = Limits { entries: 64, bytes: 64 << 10 };
/// What layers stand between.
const NEXT: &[u8] = b"=LAYER=\n";
const BLOCK: usize = 512;

/// A whole archive: of an OCI layout, or of `docker save`.
pub fn image(bytes: &[u8]) {
    let guarded = GuardedDir::new();
    let archive = guarded.dir().join("image.tar");
    let mut bytes = bytes.to_vec();
    seal(&mut bytes);
    fs::write(&archive, &bytes).expect("write the archive");
    let told = inspect::text(&archive);
    let json = inspect::json(&archive);
    assert_eq!(told.is_ok(), json.is_ok());
    let options =
        UnpackOptions { image: &archive, name: None, platform: "linux/amd64", args: &[], limits: LIMITS };
    let result = unpack::flat(&options, &guarded.dir().join("bundle"));
    let partial = guarded.dir().join("bundle.partial");
    assert!(fs::symlink_metadata(partial).is_err(), "what failed has left something");
    let bundle = guarded.dir().join("bundle");
    if result.is_ok() {
        assert!(told.is_ok());
        crate::config(&fs::read(bundle.join("config.json")).expect("a bundle has a config.json"));
    }
    finish(&guarded, &bundle.join("rootfs"), result);
}

/// The bytes of layers, one on the other.
pub fn layer(bytes: &[u8]) {
    let guarded = GuardedDir::new();
    let rootfs = guarded.dir().join("rootfs");
    fs::create_dir(&rootfs).expect("make the root directory");
    let result = apply_all(&guarded, &rootfs, bytes);
    finish(&guarded, &rootfs, result);
}

fn apply_all(guarded: &GuardedDir, rootfs: &Path, bytes: &[u8]) -> Result<()> {
    let tree = Tree::open(rootfs)?;
    let mut target = Target::new(&tree, LIMITS);
    for blob in split(bytes) {
        let mut blob = blob.to_vec();
        seal(&mut blob);
        fs::write(guarded.dir().join("blob"), &blob).expect("write a blob");
        let diff_id: String = Sha256::digest(&blob).iter().map(|byte| format!("{byte:02x}")).collect();
        let layer = Layer {
            path: "blob".into(),
            name: "blob".to_owned(),
            size: blob.len() as u64,
            packing: None,
            digest: None,
            diff_id: Expected::new(&format!("sha256:{diff_id}"))?,
        };
        let source = Source::Directory(guarded.dir());
        stream::of(&source, &layer, &Progress::new(layer.size), |archive| target.apply(archive))?;
    }
    Ok(())
}

fn finish(guarded: &GuardedDir, root: &Path, result: Result<()>) {
    if let Err(e) = result {
        crate::one_line(&format!("{e:#}"));
    }
    assert!(guarded.is_as_it_was(), "something beside the directory has changed");
    let (entries, bytes) = if root.exists() { count(root) } else { (0, 0) };
    assert!(entries <= LIMITS.entries, "{entries} files and directories");
    assert!(bytes <= LIMITS.bytes + (8 << 10), "{bytes} bytes in files");
}

/// Files and directories, and the bytes in them. As they are, for what is sparse is not there.
fn count(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut entries, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir).expect("list what was unpacked").flatten() {
        let meta = entry.metadata().expect("look at what was unpacked");
        entries += 1;
        if meta.is_dir() {
            let (more, below) = count(&entry.path());
            (entries, bytes) = (entries + more, bytes + below);
        } else {
            bytes += meta.blocks() * 512 / meta.nlink();
        }
    }
    (entries, bytes)
}

/// Who an image's `User` is: that text, then /etc/passwd and /etc/group, with zero bytes between them.
pub fn users(bytes: &[u8]) {
    let guarded = GuardedDir::new();
    let etc = guarded.dir().join("etc");
    fs::create_dir(&etc).expect("make /etc");
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    for name in ["passwd", "group"] {
        fs::write(etc.join(name), parts.next().unwrap_or_default()).expect("write a file of /etc");
    }
    let tree = Tree::open(&guarded.dir()).expect("the root directory");
    match names::of(&tree, &text) {
        Ok(user) => {
            let ids = user.additional_gids.iter().chain([&user.uid, &user.gid]);
            ids.for_each(|id| assert_ne!(*id, u32::MAX, "-1 is no id"));
            // A number that nobody is called is itself.
            let is_named =
                bytes.splitn(2, |byte| *byte == 0).nth(1).is_some_and(|files| files.contains(&b':'));
            if let (false, Ok(uid)) = (is_named, text.parse::<u32>()) {
                assert_eq!(user.uid, uid);
            }
        }
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    match bytes.windows(NEXT.len()).position(|window| window == NEXT) {
        Some(at) => vec![&bytes[..at], &bytes[at + NEXT.len()..]],
        None => vec![bytes],
    }
}

/// Makes the check sums of a tar archive's headers right, which no fuzzer would.
fn seal(archive: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            at += BLOCK;
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = tar::Header::from_byte_slice(block).entry_size().unwrap_or(0);
        let blocks = usize::try_from(size).unwrap_or(usize::MAX).div_ceil(BLOCK);
        at = at.saturating_add(blocks.saturating_add(1).saturating_mul(BLOCK)).min(archive.len());
    }
}
