//! The documents of an OCI image, after image-spec 1.1. Written as JSON values: their keys come out sorted, which makes
//! them the same bytes every time. (oci-spec's types keep labels and annotations in hash maps.)

use super::archive::{Blob, Blobs};
use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a container of the image runs by default.
pub struct Config {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `K=V`
    pub env: Vec<String>,
    pub user: Option<String>,
    pub workdir: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Config {
    fn document(&self) -> Value {
        let entries = [
            ("Entrypoint", json!(self.entrypoint)),
            ("Cmd", json!(self.cmd)),
            ("Env", json!(self.env)),
            ("User", json!(self.user)),
            ("WorkingDir", json!(self.workdir)),
            ("Labels", json!(self.labels)),
        ];
        let is_set = |value: &Value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            other => !other.is_null(),
        };
        entries
            .into_iter()
            .filter(|(_, value)| is_set(value))
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

/// One platform's image.
pub struct Image {
    platform: Map<String, Value>,
    config: Blob,
    layer: Blob,
    manifest: Blob,
}

/// The platform of this machine, in Go's words, as the image-spec wants it.
pub fn this_platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        _ => "linux/unknown",
    }
}

/// `os/architecture` or `os/architecture/variant` as the document that names a platform.
pub fn platform(text: &str) -> Result<Map<String, Value>> {
    let parts: Vec<_> = text.split('/').collect();
    ensure!(
        (2..=3).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty()),
        "platform {text:?} is not of the form os/architecture or os/architecture/variant"
    );
    let keys = ["os", "architecture", "variant"];
    Ok(keys.into_iter().zip(parts).map(|(key, part)| (key.to_owned(), json!(part))).collect())
}

/// Adds an image of one layer.
pub fn add(blobs: &mut Blobs, config: &Config, platform: Map<String, Value>, layer: Vec<u8>) -> Image {
    let layer = blobs.add(layer);
    let mut document = platform.clone();
    document.insert("config".into(), config.document());
    document.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": [layer.digest] }));
    let config = blobs.add(Value::Object(document).to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = blobs.add(manifest.to_string().into_bytes());
    Image { platform, config, layer, manifest }
}

/// The archive's entry point. It names one thing, the index of all platforms: with a name on each platform's image,
/// containerd would keep only the last.
pub fn index(blobs: &mut Blobs, images: &[Image], name: Option<&str>) -> Value {
    let manifests = images.iter().map(|image| {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
        entry["platform"] = Value::Object(image.platform.clone());
        entry
    });
    let platforms = of_manifests(manifests.collect());
    let platforms = blobs.add(platforms.to_string().into_bytes());
    let mut entry = descriptor(INDEX, &platforms);
    if let Some(name) = name {
        // containerd reads the first; podman and skopeo the second.
        entry["annotations"] = json!({
            "io.containerd.image.name": qualified(name),
            "org.opencontainers.image.ref.name": name,
        });
    }
    of_manifests(vec![entry])
}

/// What marks a directory as an image layout.
pub fn layout() -> Value {
    json!({ "imageLayoutVersion": "1.0.0" })
}

/// The table of contents of `docker save`, for `docker load` before 25, which knows no image layout. It takes one image
/// of a name.
pub fn docker_manifest(image: &Image, name: Option<&str>) -> Value {
    json!([{
        "Config": image.config.path(),
        "Layers": [image.layer.path()],
        "RepoTags": name.into_iter().collect::<Vec<_>>(),
    }])
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn of_manifests(manifests: Vec<Value>) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

/// A name as containerd keeps it, with a registry: `docker.io/ampoule/pause:0.1.0`.
fn qualified(name: &str) -> String {
    let first = name.split('/').next().unwrap_or_default();
    let has_registry = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    match (has_registry, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_or_three_parts() {
        assert_eq!(
            Value::Object(platform("linux/arm64").unwrap()),
            json!({"os": "linux", "architecture": "arm64"})
        );
        assert_eq!(platform("linux/arm/v7").unwrap()["variant"], "v7");
        for wrong in ["", "linux", "linux/", "/amd64", "a/b/c/d"] {
            assert!(platform(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_set_is_not_in_the_config() {
        let config = Config {
            entrypoint: vec!["/pause".into()],
            cmd: vec![],
            env: vec![],
            user: Some("65535:65535".into()),
            workdir: None,
            labels: BTreeMap::new(),
        };
        assert_eq!(config.document(), json!({"Entrypoint": ["/pause"], "User": "65535:65535"}));
    }

    #[test]
    fn a_name_without_a_registry_is_dockers() {
        for (name, full) in [
            ("pause", "docker.io/library/pause"),
            ("ampoule/pause:1", "docker.io/ampoule/pause:1"),
            ("localhost/pause", "localhost/pause"),
            ("example.org/a/b:1", "example.org/a/b:1"),
            ("host:5000/a", "host:5000/a"),
        ] {
            assert_eq!(qualified(name), full);
        }
    }
}
