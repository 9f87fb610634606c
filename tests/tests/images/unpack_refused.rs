//! Images that are damaged, or meant to do damage: `ampoule-bundle unpack` says what is wrong where, and leaves nothing.

use ampoule_tests::{HandMadeImage, LayerEntry, Outcome, Scratch, bundle_tool, snapshot};
use std::fs;
use std::path::Path;
use std::process::Command;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// Unpacks into `bundle` in a directory of its own; returns that.
fn unpack(image: &Path, options: &[&str]) -> (Outcome, Scratch) {
    let scratch = Scratch::new();
    let mut command = Command::new(bundle_tool());
    command.arg("unpack").args(options).arg(image).arg(scratch.path().join("bundle"));
    (Outcome::of(&mut command), scratch)
}

/// It fails with these words, and nothing is left.
#[track_caller]
fn refused(image: &Path, options: &[&str], words: &[&str]) {
    let (mut outcome, scratch) = unpack(image, options);
    for words in words {
        outcome = outcome.fails().saying(words);
    }
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "something is left: {outcome}");
}

/// The digest of a layer, as messages name it.
fn digest(image: &HandMadeImage) -> String {
    format!("sha256:{}", image.blob_of_layer(0).file_name().unwrap().to_str().unwrap())
}

#[test]
fn a_name_with_dots_leads_nowhere() {
    for name in ["../evil", "a/../../evil", "/..", ".."] {
        let image = HandMadeImage::new().layer(&[LayerEntry::Directory("a"), LayerEntry::File(name, "x")]);
        refused(image.write(), &[], &[&digest(&image), &format!("entry {name:?}"), "there is a .. in it"]);
    }
}

#[test]
fn a_name_with_a_newline_or_an_escape_does_not_break_the_line() {
    let image = HandMadeImage::new().layer(&[LayerEntry::Link("hard", "no\n\x1b[2Jwhere")]);
    refused(image.write(), &[], &["link to /no\\n\\u{1b}[2Jwhere: ENOENT"]);
}

#[test]
fn what_an_image_says_of_itself_is_a_line_each() {
    let mut image = HandMadeImage::new();
    image.config =
        serde_json::json!({ "Cmd": ["x\u{1b}[2J"], "User": "a\n  layer forged", "Labels": { "b\n": "c" } });
    let outcome = Outcome::of(Command::new(bundle_tool()).arg("inspect").arg(image.write())).ok();
    assert!(
        outcome.stdout.contains("x\\u{1b}[2J") && outcome.stdout.contains("a\\n  layer forged"),
        "{outcome}"
    );
    assert!(!outcome.stdout.lines().any(|line| line.starts_with("  layer")), "{outcome}");
}

#[test]
fn links_lead_nowhere_outside() {
    let scratch = Scratch::new();
    let outside = scratch.path().to_str().unwrap();
    fs::write(scratch.path().join("secret"), "secret").unwrap();
    let secret = format!("{outside}/secret");
    // From inside, the host's absolute path is one below the root: there is nothing.
    let image = HandMadeImage::new().layer(&[LayerEntry::Link("hard", &secret)]);
    refused(image.write(), &[], &[&digest(&image), "entry \"hard\"", &format!("link to {secret}: ENOENT")]);
    let image = HandMadeImage::new().layer(&[LayerEntry::Link("hard", "../../etc/passwd")]);
    refused(image.write(), &[], &["entry \"hard\"", "its target", "there is a .. in it"]);
    // A symbolic link to a file is no directory.
    let image = HandMadeImage::new().layer(&[
        LayerEntry::File("f", ""),
        LayerEntry::Symlink("s", "f"),
        LayerEntry::File("s/x", ""),
    ]);
    refused(image.write(), &[], &["entry \"s/x\"", "ENOTDIR"]);
    // And one that leads around in a ring.
    let image = HandMadeImage::new().layer(&[LayerEntry::Symlink("s", "s"), LayerEntry::File("s/x", "")]);
    refused(image.write(), &[], &["entry \"s/x\"", "ELOOP"]);
}

#[test]
fn paths_through_symbolic_links_stay_inside() {
    let scratch = Scratch::new();
    let outside = scratch.path().to_str().unwrap();
    let image = HandMadeImage::new()
        .layer(&[
            LayerEntry::Symlink("up", "../../../../../.."),
            LayerEntry::Symlink("etc", "/usr/etc"),
            LayerEntry::Directory("usr/etc"),
        ])
        .layer(&[
            LayerEntry::File("up/here", "1"),
            LayerEntry::File("etc/file", "2"),
            LayerEntry::File("/absolute", "3"),
        ]);
    let (outcome, made) = unpack(image.write(), &[]);
    outcome.ok();
    let rootfs = made.path().join("bundle/rootfs");
    assert_eq!(fs::read(rootfs.join("here")).unwrap(), b"1");
    assert_eq!(fs::read(rootfs.join("absolute")).unwrap(), b"3");
    assert_eq!(fs::read(rootfs.join("usr/etc/file")).unwrap(), b"2");
    let image =
        HandMadeImage::new().layer(&[LayerEntry::Symlink("out", outside), LayerEntry::File("out/file", "")]);
    refused(image.write(), &[], &["entry \"out/file\"", "open /out: ENOENT"]);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "it got out");
}

#[test]
fn whiteouts_remove_what_has_a_name_below_the_root_and_nothing_else() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let image = HandMadeImage::new().layer(&[LayerEntry::Directory("a"), LayerEntry::File(name, "")]);
        refused(image.write(), &[], &[&format!("entry {name:?}"), "it removes nothing that has a name"]);
    }
    let image = HandMadeImage::new()
        .layer(&[LayerEntry::Directory("a"), LayerEntry::File("a/old", ""), LayerEntry::File("b", "")])
        .layer(&[
            LayerEntry::Directory("a"),
            LayerEntry::File("a/new", ""),
            LayerEntry::File("a/.wh..wh..opq", ""),
            LayerEntry::File("kept", ""),
            LayerEntry::File(".wh.kept", ""),
            LayerEntry::File(".wh.b", ""),
            LayerEntry::File("nowhere/.wh.x", ""),
        ]);
    let (outcome, made) = unpack(image.write(), &[]);
    outcome.ok();
    let names: Vec<String> = snapshot(&made.path().join("bundle/rootfs")).into_keys().collect();
    assert_eq!(names, ["", "a", "a/new", "kept"]);
}

#[test]
fn damage_is_named_by_its_blob() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", "content")]);
    let layer = image.blob_of_layer(0);
    image.write();
    let whole = fs::read(&layer).unwrap();
    let mut other = whole.clone();
    other[600] ^= 1;
    fs::write(&layer, other).unwrap();
    refused(image.write(), &[], &[&digest(&image), "it is damaged"]);
    fs::write(&layer, &whole[..700]).unwrap();
    refused(image.write(), &[], &[&digest(&image), "it is damaged"]);
    fs::remove_file(&layer).unwrap();
    refused(image.write(), &[], &[&digest(&image), "the blob is missing"]);
}

#[test]
fn an_archive_that_is_cut_short_says_so() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", &"content ".repeat(10_000))]);
    let scratch = Scratch::new();
    let archive = scratch.path().join("image.tar");
    let layout = image.write().to_str().unwrap();
    Outcome::of(Command::new("tar").args(["-C", layout, "-cf", archive.to_str().unwrap(), "."])).ok();
    let (outcome, _made) = unpack(&archive, &[]);
    outcome.ok();
    let size = fs::metadata(&archive).unwrap().len();
    for length in [0, 100, 700, size / 2] {
        let file = fs::OpenOptions::new().write(true).open(&archive).unwrap();
        let whole = fs::read(&archive).unwrap();
        file.set_len(length).unwrap();
        refused(&archive, &[], &["image.tar"]);
        fs::write(&archive, whole).unwrap();
    }
}

#[test]
fn what_is_no_image_is_told_apart() {
    let scratch = Scratch::new();
    refused(scratch.path(), &[], &["no index.json in it"]);
    let file = scratch.path().join("file");
    fs::write(&file, "x".repeat(2000)).unwrap();
    refused(&file, &[], &["it can't be read as a tar archive"]);
    fs::write(&file, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).unwrap();
    refused(&file, &[], &["gunzip it first"]);
    refused(Path::new("/nowhere"), &[], &["/nowhere", "No such file"]);
}

#[test]
fn what_is_not_there_is_named_along_with_what_is() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", "")]);
    refused(image.write(), &["--ref", "nope"], &["no image called nope", "it has hand"]);
    refused(image.write(), &["--platform", "linux/s390x"], &["no image for linux/s390x"]);
    let image = HandMadeImage::new().layer_of(b"", "application/vnd.example.layer");
    refused(image.write(), &[], &[&digest(&image), "unsupported media type application/vnd.example.layer"]);
}

#[test]
fn a_bomb_ends_at_the_limits() {
    let names: Vec<String> = (0..100).map(|n| format!("file-{n}")).collect();
    let entries: Vec<LayerEntry> = names.iter().map(|name| LayerEntry::File(name, "")).collect();
    let image = HandMadeImage::new().layer(&entries);
    refused(image.write(), &["--max-entries", "99"], &[&digest(&image), "more entries than allowed"]);
    let (outcome, _made) = unpack(image.write(), &["--max-entries", "100"]);
    outcome.ok();
    // Directories that nothing but a path speaks of are some, too.
    let image = HandMadeImage::new().layer(&[LayerEntry::File("a/b/c/file", "")]);
    refused(image.write(), &["--max-entries", "3"], &[&digest(&image), "more entries than allowed"]);
    let (outcome, _made) = unpack(image.write(), &["--max-entries", "4"]);
    outcome.ok();
    let zeros = vec![0; 2 << 20];
    let scratch = Scratch::new();
    fs::write(scratch.path().join("zeros"), zeros).unwrap();
    let tar = Command::new("tar").arg("-C").arg(scratch.path()).args(["-cf", "-", "zeros"]).output().unwrap();
    let image = HandMadeImage::new().layer_of(&tar.stdout, TAR);
    refused(image.write(), &["--max-size", "1"], &[&digest(&image), "more bytes than allowed"]);
}

/// An archive of one entry of that kind.
fn archive(kind: tar::EntryType, owner: u32, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.as_old_mut().name[..4].copy_from_slice(b"file");
    header.set_mode(0o4755);
    header.set_uid(owner.into());
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, content).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn an_owner_of_minus_one_is_refused() {
    let image = HandMadeImage::new().layer_of(&archive(tar::EntryType::Regular, u32::MAX, b""), TAR);
    refused(image.write(), &[], &[&digest(&image), "entry \"file\": its owner is larger than any"]);
}

/// Long names and extended headers are read whole, and no limit of files or bytes is about them.
#[test]
fn a_header_has_no_more_room_than_paths_and_attributes_take() {
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let image = HandMadeImage::new().layer_of(&archive(kind, 0, &vec![b'a'; 2 << 20]), TAR);
        refused(image.write(), &[], &[&digest(&image), "a header is longer than 1024 KiB"]);
    }
}

#[test]
fn indexes_that_name_each_other_many_times_come_to_an_end() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", "")]);
    let dir = image.write();
    (0..3).for_each(|_| image.nest(30));
    refused(dir, &[], &["it has more than 10000 manifests"]);
}

#[test]
fn documents_that_lie_are_refused() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", "")]);
    let dir = image.write();
    let index = fs::read_to_string(dir.join("index.json")).unwrap();
    for (wrong, words) in [
        ("{", "index.json can't be read"),
        (&index.replace("sha256:", "sha256:../../"), "index.json can't be read"),
        (&index.replace("manifest.v1+json", "manifest.v9+json"), "unsupported media type"),
        (&" ".repeat(9 << 20), "larger than 8 MiB"),
    ] {
        fs::write(dir.join("index.json"), wrong).unwrap();
        refused(dir, &[], &[words]);
    }
}

#[test]
fn a_user_that_the_image_does_not_know_is_refused() {
    let mut image = HandMadeImage::new().layer(&[LayerEntry::File("file", "")]);
    image.config = serde_json::json!({ "User": "www", "Cmd": ["true"] });
    refused(image.write(), &[], &["config.User", "no user \"www\""]);
    image.config = serde_json::json!({});
    refused(image.write(), &[], &["neither Entrypoint nor Cmd"]);
}

#[test]
fn a_bundle_that_is_there_stays_as_it_is() {
    let image = HandMadeImage::new().layer(&[LayerEntry::File("file", "")]);
    let scratch = Scratch::new();
    fs::write(scratch.path().join("mine"), "").unwrap();
    let mut command = Command::new(bundle_tool());
    command.arg("unpack").arg(image.write()).arg(scratch.path());
    Outcome::of(&mut command).fails().saying("exists and is not empty");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}
