//! OCI images that a test writes by hand, also such as no builder would make: names that lead out, wrong digests, deep indexes.

use crate::scratch::Scratch;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// An OCI layout with one image.
pub struct HandMadeImage {
    dir: Scratch,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
    /// What the image's configuration says in `config`.
    pub config: Value,
}

impl HandMadeImage {
    /// No layer yet; it runs `true`.
    pub fn new() -> Self {
        let dir = Scratch::new();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let config = json!({ "Cmd": ["true"] });
        Self { dir, layers: Vec::new(), diff_ids: Vec::new(), config }
    }

    /// Adds an uncompressed layer of these entries.
    pub fn layer(self, entries: &[LayerEntry<'_>]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in entries {
            entry.append(&mut tar);
        }
        let bytes = tar.into_inner().unwrap();
        self.layer_of(&bytes, "application/vnd.oci.image.layer.v1.tar")
    }

    /// Adds any bytes as a layer of that media type.
    pub fn layer_of(mut self, bytes: &[u8], media_type: &str) -> Self {
        let descriptor = self.blob(bytes, media_type);
        self.diff_ids.push(descriptor["digest"].as_str().unwrap().to_owned());
        self.layers.push(descriptor);
        self
    }

    /// Writes the documents; the layout's directory.
    pub fn write(&self) -> &Path {
        let config = json!({
            "os": "linux",
            "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", _ => "amd64" },
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        let config = self.blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": self.layers });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = self.blob(manifest.to_string().as_bytes(), media_type);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "hand" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        self.path()
    }

    /// Makes of index.json a blob, and of that so many entries of a new index.json.
    pub fn nest(&self, times: usize) {
        let index = fs::read(self.path().join("index.json")).unwrap();
        let entry = self.blob(&index, "application/vnd.oci.image.index.v1+json");
        let index = json!({ "schemaVersion": 2, "manifests": vec![entry; times] });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// Where the blob of a layer is.
    pub fn blob_of_layer(&self, n: usize) -> PathBuf {
        self.path().join("blobs").join(self.layers[n]["digest"].as_str().unwrap().replace(':', "/"))
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        // By the system's own program: the digests are not to be our own idea of them.
        let file = self.path().join("blob");
        fs::write(&file, bytes).unwrap();
        let sum = std::process::Command::new("sha256sum").arg(&file).output().expect("run sha256sum");
        let hex = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
        fs::rename(file, self.path().join("blobs/sha256").join(&hex)).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }
}

impl Default for HandMadeImage {
    fn default() -> Self {
        Self::new()
    }
}

/// An entry of a layer.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "tar's own words")]
pub enum LayerEntry<'a> {
    Directory(&'a str),
    File(&'a str, &'a str),
    Symlink(&'a str, &'a str),
    Link(&'a str, &'a str),
}

impl LayerEntry<'_> {
    fn append(&self, tar: &mut tar::Builder<Vec<u8>>) {
        let (name, kind, link, content) = match *self {
            LayerEntry::Directory(name) => (name, tar::EntryType::Directory, "", ""),
            LayerEntry::File(name, content) => (name, tar::EntryType::Regular, "", content),
            LayerEntry::Symlink(name, to) => (name, tar::EntryType::Symlink, to, ""),
            LayerEntry::Link(name, to) => (name, tar::EntryType::Link, to, ""),
        };
        let mut header = tar::Header::new_gnu();
        // Written by hand: the crate refuses names that lead out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
}
