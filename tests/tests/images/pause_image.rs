//! `target/pause.tar`, which `make image` writes: an image that every engine takes.

use crate::run;
use ampoule_tests::{Bundle, Container, Scratch, pause_image, require};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The archive, unpacked.
struct Image(Scratch);

impl Image {
    fn open() -> Self {
        let scratch = Scratch::new();
        let (image, to) = (pause_image(), scratch.path().to_str().unwrap().to_owned());
        run("tar", &["-xf", image.to_str().unwrap(), "-C", &to]);
        Self(scratch)
    }

    fn json(&self, path: &str) -> Value {
        let text =
            fs::read_to_string(self.0.path().join(path)).unwrap_or_else(|e| panic!("read {path}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The path of the blob that a descriptor names, whose size and digest are right.
    fn blob(&self, descriptor: &Value) -> String {
        let digest = descriptor["digest"].as_str().expect("a digest");
        let path = format!("blobs/{}", digest.replace(':', "/"));
        let file = self.0.path().join(&path);
        assert_eq!(fs::metadata(&file).unwrap().len(), descriptor["size"], "{path}");
        let sum = run("sha256sum", &[file.to_str().unwrap()]);
        assert!(digest.ends_with(sum.split(' ').next().unwrap()), "{digest}: {sum}");
        path
    }

    /// The manifests of its platforms, by architecture.
    fn manifests(&self) -> Vec<(String, Value)> {
        let index = self.json("index.json");
        let platforms = self.json(&self.blob(&index["manifests"][0]));
        let manifests = platforms["manifests"].as_array().expect("manifests");
        let of = |entry: &Value| {
            let architecture = entry["platform"]["architecture"].as_str().expect("an architecture");
            (architecture.to_owned(), self.json(&self.blob(entry)))
        };
        manifests.iter().map(of).collect()
    }
}

#[test]
fn it_is_one_file_for_each_architecture_with_its_user_and_entry_point() {
    let image = Image::open();
    assert_eq!(image.json("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }));
    let manifests = image.manifests();
    let architectures: Vec<_> = manifests.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(architectures, ["amd64", "arm64"]);
    for (architecture, manifest) in &manifests {
        let config = image.json(&image.blob(&manifest["config"]));
        assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(architecture)));
        assert_eq!(config["config"], json!({ "User": "65535:65535", "Entrypoint": ["/pause"] }));
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1);
        // Uncompressed, so the layer's digest is that of its contents, too.
        assert_eq!(config["rootfs"]["diff_ids"], json!([layers[0]["digest"]]));
        let layer = image.0.path().join(image.blob(&layers[0]));
        let listing = run("tar", &["--utc", "-tvf", layer.to_str().unwrap()]);
        let words: Vec<_> = listing.split_whitespace().collect();
        assert_eq!(
            (words[0], words[1], words[3], words[5]),
            ("-rwxr-xr-x", "0/0", "1970-01-01", "pause"),
            "{listing}"
        );
        assert_eq!(listing.lines().count(), 1, "{listing}");
    }
}

#[test]
fn it_has_at_most_32_kib_for_each_architecture() {
    let (size, count) = (fs::metadata(pause_image()).unwrap().len(), Image::open().manifests().len() as u64);
    assert!(size <= count * (32 << 10), "{size} bytes for {count}");
}

#[test]
fn skopeo_takes_it_as_an_oci_archive_and_as_docker_save_writes_one() {
    let skopeo = Command::new("skopeo").arg("--version").output().is_ok();
    require!(skopeo, "skopeo");
    let (scratch, image) = (Scratch::new(), pause_image());
    for transport in ["oci-archive", "docker-archive"] {
        let source = format!("{transport}:{}", image.display());
        let config: Value = serde_json::from_str(&run("skopeo", &["inspect", "--config", &source])).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/pause"]), "{transport}");
        let target = format!("dir:{}", scratch.path().join(transport).display());
        run("skopeo", &["copy", "--insecure-policy", "--quiet", &source, &target]);
    }
    let (source, target) = (
        format!("oci-archive:{}", image.display()),
        format!("oci:{}:all", scratch.path().join("all").display()),
    );
    run("skopeo", &["copy", "--insecure-policy", "--quiet", "--all", &source, &target]);
}

#[test]
fn it_runs_as_its_user() {
    let image = Image::open();
    let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (_, manifest) = image.manifests().into_iter().find(|(name, _)| name == here).expect("this machine's");
    let layer = image.0.path().join(image.blob(&manifest["layers"][0]));
    let bundle = Bundle::asking(&[]).with(|c| {
        c["process"]["args"] = json!(["/pause"]);
        c["process"]["user"] = json!({ "uid": 65535, "gid": 65535 });
    });
    let rootfs = bundle.rootfs();
    let to = |path: &Path| path.to_str().unwrap().to_owned();
    run("tar", &["-xf", &to(&layer), "-C", &to(&rootfs)]);
    let pod = Container::of(bundle);
    pod.launch();
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid())).unwrap();
    assert!(status.contains("Uid:\t65535\t65535"), "{status}");
    pod.kill("TERM").ok();
    pod.wait_status("stopped");
}
