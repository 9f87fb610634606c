//! `ampoule-bundle unpack`: an image becomes a bundle that runs. umoci is what it is held against.

use crate::run;
use ampoule_tests::{
    HandMadeImage, LayerEntry, Outcome, Runtime, Scratch, bundle_tool, mountinfo, probe, require, snapshot,
};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const USER: u32 = 65534;

fn has_tools() -> bool {
    ["umoci", "skopeo"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok())
}

/// An OCI layout that umoci made of a tree with all that a tree can have, in four layers.
struct Rich(Scratch);

impl Rich {
    fn make() -> Self {
        let scratch = Scratch::new();
        let at = |path: &str| scratch.path().join(path);
        for dir in ["one/usr/lib", "one/etc/empty", "one/var/gone", "one/var/opaque", "two", "three/sub"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        fs::write(at("one/etc/hosts"), "first").unwrap();
        fs::write(at("one/etc/changed"), "older and longer").unwrap();
        fs::write(at("one/var/gone/file"), "gone").unwrap();
        fs::write(at("one/var/opaque/lower"), "hidden").unwrap();
        fs::write(at("one/usr/lib/big"), vec![7; 3 << 20]).unwrap();
        fs::write(at("one/set"), "user id").unwrap();
        chown(at("one/set"), Some(12), Some(34)).unwrap();
        fs::set_permissions(at("one/set"), PermissionsExt::from_mode(0o6751)).unwrap();
        fs::hard_link(at("one/etc/hosts"), at("one/usr/hosts")).unwrap();
        symlink("usr/lib", at("one/lib")).unwrap();
        symlink("/nowhere/at/all", at("one/broken")).unwrap();
        run("mknod", &[at("one/null").to_str().unwrap(), "c", "1", "3"]);
        run("mkfifo", &[at("one/fifo").to_str().unwrap()]);
        xattr::set(at("one/etc/hosts"), "user.note", b"kept").unwrap();
        fs::set_permissions(at("one/etc/empty"), PermissionsExt::from_mode(0o1700)).unwrap();
        fs::write(at("two/changed"), "new").unwrap();
        fs::write(at("three/sub/upper"), "seen").unwrap();
        let old = |path: &str, when: &str| {
            run("touch", &["-h", "-d", when, at(path).to_str().unwrap()]);
        };
        old("one/etc/changed", "2001-02-03 04:05:06");
        old("one/broken", "1999-01-01");
        old("one/etc", "2002-02-02");
        let layout = at("layout").to_str().unwrap().to_owned();
        let image = format!("{layout}:rich");
        run("umoci", &["init", "--layout", &layout]);
        run("umoci", &["new", "--image", &image]);
        for (from, to) in [("one", "/"), ("two", "/etc")] {
            run("umoci", &["insert", "--image", &image, at(from).to_str().unwrap(), to]);
        }
        run("umoci", &["insert", "--image", &image, "--whiteout", "/var/gone"]);
        run(
            "umoci",
            &["insert", "--image", &image, "--opaque", at("three").to_str().unwrap(), "/var/opaque"],
        );
        Self(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// What umoci makes of it.
    fn expected(&self) -> std::collections::BTreeMap<String, String> {
        run("umoci", &["unpack", "--image", &format!("{}:rich", self.text("layout")), &self.text("umoci")]);
        snapshot(&self.path("umoci/rootfs"))
    }
}

fn assert_same(a: &std::collections::BTreeMap<String, String>, root: &Path) {
    let b = snapshot(root);
    let names = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
    let other: Vec<String> = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| format!("{name}\n  umoci:   {:?}\n  ampoule: {:?}", a.get(name), b.get(name)))
        .collect();
    assert!(other.is_empty(), "{}", other.join("\n"));
    assert!(b.len() > 10, "{b:?}");
}

fn unpack(args: &[&str]) -> Outcome {
    Outcome::of(Command::new(bundle_tool()).arg("unpack").args(args))
}

#[test]
fn a_layout_unpacks_to_what_umoci_unpacks() {
    require!(has_tools(), "umoci and skopeo");
    let rich = Rich::make();
    unpack(&[&rich.text("layout"), &rich.text("ours"), "--", "true"]).ok();
    assert_same(&rich.expected(), &rich.path("ours/rootfs"));
    assert!(!rich.path("ours/rootfs/var/gone").exists());
    assert!(!rich.path("ours/rootfs/var/opaque/lower").exists());
}

#[test]
fn archives_and_every_compression_unpack_to_the_same() {
    require!(has_tools(), "umoci and skopeo");
    let rich = Rich::make();
    let expected = rich.expected();
    let from = format!("oci:{}:rich", rich.text("layout"));
    let copies = [
        (format!("docker-archive:{}:some/name:tag", rich.text("docker.tar")), "docker.tar", vec![]),
        (format!("oci-archive:{}:tag", rich.text("oci.tar")), "oci.tar", vec![]),
        (format!("oci:{}:tag", rich.text("zstd")), "zstd", vec!["--dest-compress-format", "zstd"]),
    ];
    for (n, (to, name, options)) in copies.iter().enumerate() {
        let recompress = if options.is_empty() { vec![] } else { vec!["--dest-compress"] };
        run(
            "skopeo",
            &[&["copy", "--insecure-policy", "-q"], &recompress[..], options, &[&from, to]].concat(),
        );
        let bundle = rich.text(&format!("from-{n}"));
        unpack(&["--ref", "tag", &rich.text(name), &bundle, "--", "true"]).ok();
        assert_same(&expected, &Path::new(&bundle).join("rootfs"));
    }
    let index = fs::read_to_string(rich.path("zstd/index.json")).unwrap();
    let digest = serde_json::from_str::<Value>(&index).unwrap()["manifests"][0]["digest"].clone();
    let manifest = rich.path("zstd/blobs").join(digest.as_str().unwrap().replace(':', "/"));
    assert!(fs::read_to_string(manifest).unwrap().contains("tar+zstd"), "skopeo wrote no zstd");
}

#[test]
fn layers_on_one_another_are_the_same_and_bundles_share_them() {
    require!(has_tools(), "umoci and skopeo");
    let rich = Rich::make();
    let store = rich.text("store");
    for bundle in ["a", "b"] {
        unpack(&["--overlay", "--store", &store, &rich.text("layout"), &rich.text(bundle), "--", "true"])
            .ok();
    }
    assert_eq!(fs::read_dir(&store).unwrap().count(), 4, "one directory for each layer");
    let tool =
        |verb: &str, bundle: &str| Outcome::of(Command::new(bundle_tool()).arg(verb).arg(rich.path(bundle)));
    let expected = rich.expected();
    for bundle in ["a", "b"] {
        tool("mount", bundle).ok();
        assert_same(&expected, &rich.path(&format!("{bundle}/rootfs")));
    }
    tool("mount", "a").fails().saying("is mounted already");
    fs::write(rich.path("a/rootfs/etc/hosts"), "a's own").unwrap();
    fs::remove_file(rich.path("a/rootfs/set")).unwrap();
    assert_eq!(fs::read(rich.path("b/rootfs/etc/hosts")).unwrap(), b"first");
    tool("umount", "a").ok();
    tool("umount", "a").fails().saying("is not mounted");
    tool("mount", "a").ok();
    assert_eq!(fs::read(rich.path("a/rootfs/etc/hosts")).unwrap(), b"a's own");
    assert!(!rich.path("a/rootfs/set").exists());
    for bundle in ["a", "b"] {
        tool("umount", bundle).ok();
    }
    let ours = rich.0.path().to_str().unwrap();
    assert!(mountinfo().iter().all(|mount| !mount.target.starts_with(ours)));
}

/// A hand-made image with the probe in it.
fn asking(question: &[&str]) -> (HandMadeImage, Scratch) {
    let bundle = Scratch::new();
    let mut image = HandMadeImage::new().layer(&[
        LayerEntry::Directory("etc"),
        LayerEntry::File("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\n"),
        LayerEntry::File("etc/group", "tls:x:40:www\n"),
        LayerEntry::Directory("data"),
        LayerEntry::File("data/seed", "from the image"),
    ]);
    image.config = json!({
        "Entrypoint": ["/probe"],
        "Cmd": question,
        "Env": ["A=b"],
        "User": "www",
        "WorkingDir": "/data",
        "Volumes": { "/data": {} },
        "Labels": { "who": "me", "org.opencontainers.image.author": "label" },
        "StopSignal": "SIGINT",
        "ExposedPorts": { "80/tcp": {} },
    });
    (image, bundle)
}

#[test]
fn the_configuration_becomes_config_json_and_the_bundle_runs() {
    let (image, scratch) = asking(&["cat", "/data/seed"]);
    let bundle = scratch.path().join("bundle");
    let args = [image.write().to_str().unwrap().to_owned(), bundle.to_str().unwrap().to_owned()];
    unpack(&[&args[0], &args[1]]).ok();
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/probe", "cat", "/data/seed"]));
    assert_eq!(spec["process"]["user"], json!({ "uid": 33, "gid": 34, "additionalGids": [40] }));
    assert_eq!(spec["process"]["cwd"], "/data");
    assert_eq!(spec["process"]["env"][1], "A=b");
    let annotations = &spec["annotations"];
    assert_eq!(annotations["who"], "me");
    assert_eq!(annotations["org.opencontainers.image.stopSignal"], "SIGINT");
    assert_eq!(annotations["org.opencontainers.image.exposedPorts"], "80/tcp");
    assert_eq!(annotations["org.opencontainers.image.author"], "label");
    fs::copy(probe(), bundle.join("rootfs/probe")).unwrap();
    fs::set_permissions(bundle.join("rootfs/probe"), PermissionsExt::from_mode(0o755)).unwrap();
    let state = scratch.path().join("state");
    let mut run = Command::new(Runtime::get().program());
    run.arg("--root").arg(state).args([
        "run",
        "--bundle",
        &args[1],
        scratch.path().file_name().unwrap().to_str().unwrap(),
    ]);
    // The volume has what the image has in its place.
    assert_eq!(Outcome::of(&mut run).ok().text(), "from the image");
}

#[test]
fn arguments_replace_what_the_image_has_by_default() {
    let (image, scratch) = asking(&["cat", "/data/seed"]);
    let bundle = scratch.path().join("bundle");
    let layout = image.write().to_str().unwrap();
    unpack(&[layout, bundle.to_str().unwrap(), "--", "env", "-x"]).ok();
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/probe", "env", "-x"]));
}

#[test]
fn an_ordinary_user_unpacks_what_he_can_and_owns_it() {
    let (image, scratch) = asking(&["cat", "/data/seed"]);
    let layout = image.write().to_str().unwrap().to_owned();
    chown(scratch.path(), Some(USER), Some(USER)).unwrap();
    let tool = scratch.path().join("tool");
    fs::copy(bundle_tool(), &tool).unwrap();
    let bundle = scratch.path().join("bundle");
    let id = USER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(&tool);
    command.args(["unpack", &layout]).arg(&bundle);
    Outcome::of(&mut command).ok();
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["linux"]["uidMappings"], json!([{ "containerID": 33, "hostID": USER, "size": 1 }]));
    assert!(snapshot(&bundle.join("rootfs")).values().all(|line| line.contains(&format!("owner {id}:{id}"))));
}

#[test]
fn what_is_packed_unpacks_to_the_same() {
    let scratch = Scratch::new();
    let at = |path: &str| scratch.path().join(path).to_str().unwrap().to_owned();
    fs::create_dir_all(at("tree/bin")).unwrap();
    fs::write(at("tree/bin/tool"), "#!").unwrap();
    fs::set_permissions(at("tree/bin/tool"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("tool", at("tree/bin/other")).unwrap();
    let tool = bundle_tool();
    let pack = [
        "pack",
        "--entrypoint",
        "/bin/tool",
        "--label",
        "a=b",
        "--ref",
        "x/y:1",
        &at("tree"),
        &at("image.tar"),
    ];
    Outcome::of(Command::new(&tool).args(pack)).ok();
    unpack(&["--ref", "x/y:1", &at("image.tar"), &at("bundle")]).ok();
    let contents = |root: &str| {
        let strip = |line: String| {
            line.split(" time").next().unwrap().to_owned() + line.split("size").nth(1).unwrap()
        };
        snapshot(Path::new(&at(root))).into_iter().skip(1).map(|(k, v)| (k, strip(v))).collect::<Vec<_>>()
    };
    assert_eq!(contents("tree"), contents("bundle/rootfs"));
    let shown = Outcome::of(Command::new(&tool).args(["inspect", "--json", &at("image.tar")])).ok();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown[0]["names"], json!(["docker.io/x/y:1", "x/y:1"]));
    assert_eq!(shown[0]["config"]["config"]["Labels"]["a"], "b");
    let text = Outcome::of(Command::new(&tool).args(["inspect", &at("image.tar")])).ok();
    assert!(text.stdout.contains("entrypoint   /bin/tool"), "{text}");
}
