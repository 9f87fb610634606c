//! The mounts of a Create request: what a snapshotter describes, and the shim mounts and unmounts.

use ampoule_tests::{Bundle, Mount, Outcome, Shim, call_timeout, mountinfo, on_path, require, wait_for};
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::types::mount::Mount as Wanted;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

fn wanted(kind: &str, source: impl AsRef<Path>, options: &[&str]) -> Wanted {
    Wanted {
        type_: kind.to_owned(),
        source: source.as_ref().to_str().expect("a UTF-8 path").to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Default::default()
    }
}

/// A bundle whose root file system is elsewhere, at `base`, and is to be mounted.
fn unmounted(bundle: Bundle) -> Bundle {
    fs::rename(bundle.rootfs(), bundle.beside("base")).unwrap();
    fs::create_dir(bundle.rootfs()).unwrap();
    for dir in ["upper", "work"] {
        fs::create_dir(bundle.beside(dir)).unwrap();
    }
    bundle
}

/// The options of an overlay over `base`, with these besides.
fn overlay(bundle: &Bundle, more: &[&str]) -> Vec<String> {
    let path = |name: &str| bundle.beside(name).display().to_string();
    let own = [("lowerdir", "base"), ("upperdir", "upper"), ("workdir", "work")];
    let own = own.map(|(option, name)| format!("{option}={}", path(name)));
    own.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
}

/// Has the kernel's module loaded: where no udev runs, nobody else does.
fn load(module: &str) {
    let _ = Command::new("modprobe").args(["-q", module]).stdin(Stdio::null()).status();
}

fn run_tool(program: &str, args: &[&str], more: &[&Path]) {
    Outcome::of(Command::new(program).args(args).args(more).stdin(Stdio::null())).ok();
}

/// What is mounted on the bundle's root file system and below it.
fn mounted(shim: &Shim) -> Vec<Mount> {
    let rootfs = shim.bundle().rootfs();
    mountinfo().into_iter().filter(|mount| Path::new(&mount.target).starts_with(&rootfs)).collect()
}

/// Runs the bundle's questions on these mounts, to their end, and removes it; the answers.
#[track_caller]
fn ask(shim: &Shim, rootfs: Vec<Wanted>) -> String {
    let out = shim.bundle().beside("out");
    let _ = fs::remove_file(&out);
    let stdout = format!("file://{}", out.display());
    shim.launch_with(CreateTaskRequest { stdout, rootfs, ..shim.create_request() });
    assert!(!mounted(shim).is_empty());
    assert_eq!(shim.wait(""), 0);
    shim.delete("").unwrap();
    assert!(mounted(shim).is_empty());
    fs::read_to_string(out).unwrap()
}

#[test]
fn an_overlay_whose_layers_fill_a_page_is_mounted() {
    let bundle = unmounted(Bundle::asking(&["ls", "/", ",", "open", "/lower", "r"]));
    for dir in ["lower", "empty"] {
        fs::create_dir(bundle.beside(dir)).unwrap();
    }
    fs::write(bundle.beside("lower/lower"), "text").unwrap();
    let path = |name: &str| bundle.beside(name).to_str().unwrap().to_owned();
    // So long that only relative names fit into a page.
    let filler: Vec<String> = (0..60)
        .map(|n| {
            let name = format!("empty/{n}-{}", "x".repeat(40));
            fs::create_dir(bundle.beside(&name)).unwrap();
            path(&name)
        })
        .collect();
    let mut mount = wanted("overlay", "overlay", &[]);
    mount.options = overlay(&bundle, &["userxattr"]);
    mount.options[0] = format!("lowerdir={}:{}:{}", path("lower"), filler.join(":"), path("base"));
    assert!(mount.options[0].len() > 4096);
    let shim = Shim::start(bundle);
    let mut bad = mount.clone();
    bad.options[0] = "lowerdir=/no/such/layer".into();
    let request = CreateTaskRequest { rootfs: vec![mount.clone(), bad], ..shim.create_request() };
    let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
    assert!(error.contains("overlay"), "{error}");
    assert!(mounted(&shim).is_empty());
    let out = ask(&shim, vec![mount]);
    assert!(out.contains("lower"), "{out}");
}

#[test]
fn every_attribute_of_a_bind_mount_holds() {
    let bundle = unmounted(Bundle::sleeping());
    let base = bundle.beside("base");
    let tmp = Wanted { target: "/tmp".to_owned(), ..wanted("bind", base.join("etc"), &["bind", "noexec"]) };
    let shim = Shim::start(bundle);
    for (options, held) in [
        (["rbind", "nodev", "noatime"], ["nodev", "noatime"]),
        (["bind", "nosuid", "strictatime"], ["nosuid", "nosuid"]),
        (["rbind", "ro", "nodiratime"], ["ro", "nodiratime"]),
    ] {
        let rootfs = vec![wanted("bind", &base, &options), tmp.clone()];
        shim.tasks.create(call_timeout(), &CreateTaskRequest { rootfs, ..shim.create_request() }).unwrap();
        let mounts = mounted(&shim);
        assert!(held.iter().all(|option| mounts[0].options.contains(*option)), "{options:?}: {mounts:?}");
        assert!(!mounts[0].options.contains("relatime") || options[2] == "nodiratime", "{mounts:?}");
        assert!(mounts[1].options.contains("noexec"), "{mounts:?}");
        shim.delete("").unwrap();
    }
}

/// Loop devices of images in the bundle.
fn devices(bundle: &Bundle) -> Vec<String> {
    let all = fs::read_dir("/sys/block").unwrap().flatten();
    let files = all.filter_map(|disk| fs::read_to_string(disk.path().join("loop/backing_file")).ok());
    files.filter(|file| Path::new(file).starts_with(bundle.path())).collect()
}

#[test]
fn an_image_in_a_file_is_mounted_by_a_loop_device_that_goes_with_it() {
    let bundle = unmounted(Bundle::asking(&["write", "/new", "text", ",", "cat", "/new"]).writable());
    load("loop");
    let (base, image) = (bundle.beside("base"), bundle.beside("image"));
    run_tool(
        "mke2fs",
        &["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"],
        &[&base, &image, Path::new("64M")],
    );
    let shim = Shim::start(bundle);
    for options in [&["loop"][..], &["loop", "direct-io", "noatime"]] {
        let out = ask(&shim, vec![wanted("ext4", &image, options)]);
        assert!(out.contains("text"), "{out}");
        wait_for("the device to go", || devices(shim.bundle()).is_empty());
    }
    let rootfs = vec![wanted("ext4", &image, &["loop", "ro"])];
    let request = CreateTaskRequest { rootfs, ..shim.create_request() };
    shim.tasks.create(call_timeout(), &request).unwrap();
    assert!(mounted(&shim)[0].super_options.contains("ro"), "{:?}", mounted(&shim));
    assert_eq!(devices(shim.bundle()).len(), 1);
    shim.delete("").unwrap();
    wait_for("the device to go", || devices(shim.bundle()).is_empty());
    let request = CreateTaskRequest {
        rootfs: vec![wanted("ext4", shim.bundle().beside("nothing"), &["loop"])],
        ..shim.create_request()
    };
    let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
    assert!(error.contains("loop device") && error.contains("nothing"), "{error}");
}

#[test]
fn an_erofs_image_may_have_its_data_in_other_files() {
    load("erofs");
    load("loop");
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("\terofs\n");
    require!(known && on_path("mkfs.erofs").is_some(), "erofs and mkfs.erofs", named "nobody needs erofs to use Ampoule");
    let bundle = unmounted(Bundle::asking(&["cat", "/text"]));
    fs::write(bundle.beside("base/text"), "some text. ".repeat(1000)).unwrap();
    let (base, image, data) = (bundle.beside("base"), bundle.beside("image"), bundle.beside("data"));
    // mkfs.erofs 1.8 wants it to be there.
    fs::write(&data, "").unwrap();
    let blobs = format!("--blobdev={}", data.display());
    run_tool("mkfs.erofs", &["--chunksize=4096", &blobs], &[&image, &base]);
    let shim = Shim::start(bundle);
    let device = format!("device={}", data.display());
    let out = ask(&shim, vec![wanted("erofs", &image, &["ro", "loop", &device])]);
    assert!(out.contains("some text. some text."), "{out}");
    wait_for("the devices to go", || devices(shim.bundle()).is_empty());
}

#[test]
fn a_program_makes_the_mounts_that_only_it_can() {
    let there = on_path("mount.fuse3").is_some()
        && on_path("fuse-overlayfs").is_some()
        && Path::new("/dev/fuse").exists();
    require!(there, "mount.fuse3, fuse-overlayfs and /dev/fuse", named "nobody needs FUSE to use Ampoule");
    let bundle = unmounted(Bundle::asking(&["write", "/new", "text", ",", "cat", "/new"]).writable());
    let mut mount = wanted("fuse3.fuse-overlayfs", "overlay", &[]);
    mount.options = overlay(&bundle, &[]);
    let mut bad = mount.clone();
    bad.options[0] = "lowerdir=/no/such/layer".into();
    let shim = Shim::start(bundle);
    let request = CreateTaskRequest { rootfs: vec![bad], ..shim.create_request() };
    let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
    assert!(error.contains("mount.fuse3") && error.contains("/no/such/layer"), "{error}");
    let out = ask(&shim, vec![mount.clone()]);
    assert!(out.contains("text"), "{out}");
    assert_eq!(fs::read_to_string(shim.bundle().beside("upper/new")).unwrap(), "text");
    wait_for("the server's end", || shim.leftovers().iter().all(|left| !left.contains("fuse")));

    mount.type_ = "fuse3.no-such-program".to_owned();
    let request = CreateTaskRequest { rootfs: vec![mount], ..shim.create_request() };
    let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn owners_are_mapped_for_a_user_namespace() {
    let question = ["stat", "/bin/probe", ",", "write", "/tmp/new", "text"];
    let bundle = unmounted(Bundle::asking(&question).writable().with_user_namespace());
    let base = bundle.beside("base");
    for dir in ["upper", "work"] {
        chown(bundle.beside(dir), Some(100_000), Some(100_000)).unwrap();
    }
    let maps = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];
    let mut layered = wanted("overlay", "overlay", &[]);
    layered.options = overlay(&bundle, &maps);
    let plain = wanted("bind", &base, &[&["rbind"], &maps[..]].concat());
    let shim = Shim::start(bundle);
    for (mount, new) in [(layered, shim.bundle().beside("upper/tmp/new")), (plain, base.join("tmp/new"))] {
        let kind = mount.type_.clone();
        let out = ask(&shim, vec![mount]);
        assert!(out.contains(r#""uid":0"#) && out.contains(r#""gid":0"#), "{kind}: {out}");
        // An overlay's upper layer isn't mapped; a mapped mount gives back what it has mapped.
        let owner = if kind == "overlay" { 100_000 } else { 0 };
        assert_eq!(fs::metadata(new).unwrap().uid(), owner, "{kind}");
        assert!(!shim.bundle().beside("layers").exists());
    }
    let half = wanted("bind", &base, &["rbind", maps[0]]);
    let request = CreateTaskRequest { rootfs: vec![half], ..shim.create_request() };
    let error = shim.tasks.create(call_timeout(), &request).unwrap_err().to_string();
    assert!(error.contains("gidmap"), "{error}");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", shim.pid)).unwrap();
    assert_eq!(children.trim(), "", "somebody has stayed in the namespace");
}
