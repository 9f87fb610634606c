//! Which images a source holds, and what each consists of: indexes, manifests and configurations, after image-spec 1.1;
//! and the `manifest.json` of `docker save`, for archives that have no index.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde_json::Value;

use crate::digest::{Checked, Expected};
use crate::source::Source;

/// containerd's name for an image; the spec's own may be a tag alone.
const FULL_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// An index in an index in an index is already more than anybody writes.
const MAX_DEPTH: usize = 4;

/// Entries of all indexes: with an index that names another a thousand times, and so on, there is no end.
const MAX_ENTRIES: usize = 10_000;

/// One image, for one platform.
pub struct Image {
    /// What it is called in its source.
    pub names: BTreeSet<String>,
    /// What it says of itself.
    pub configuration: ImageConfiguration,
    /// From the bottom up.
    pub layers: Vec<Layer>,
}

/// A layer's blob.
pub struct Layer {
    /// Its file in the source.
    pub path: PathBuf,
    /// What to call it in messages: its digest, or its path in a `docker save` archive.
    pub name: String,
    /// Bytes, as it is stored; 0 is unknown.
    pub size: u64,
    /// How it is packed; None: as its first bytes say.
    pub packing: Option<Packing>,
    /// The digest of what is stored.
    pub digest: Option<Expected>,
    /// The digest of the tar archive within.
    pub diff_id: Expected,
}

/// What a layer is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the media types' own words")]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(media_type: &MediaType) -> Result<Packing> {
        let text = media_type.to_string();
        Ok(match text.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Packing::Plain,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Packing::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Packing::Zstd,
            other => bail!("unsupported media type {other}"),
        })
    }
}

impl Image {
    /// `os/architecture` or `os/architecture/variant`.
    pub fn platform(&self) -> String {
        let configuration = &self.configuration;
        let base = format!("{}/{}", configuration.os(), configuration.architecture());
        match configuration.variant() {
            Some(variant) => format!("{base}/{variant}"),
            None => base,
        }
    }

    /// Whether it is of that name: the whole of it, or its tag.
    fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name || own.rsplit_once(':').is_some_and(|(_, tag)| tag == name))
    }

    /// Whether a program of `platform` runs where it does; a variant that only one of them has is no difference.
    fn is_for(&self, platform: &str) -> bool {
        let own = self.platform();
        let parts = |text: &str| text.splitn(3, '/').map(str::to_owned).collect::<Vec<_>>();
        let (own, wanted) = (parts(&own), parts(platform));
        own.iter().zip(&wanted).all(|(a, b)| a == b) && wanted.len() >= 2
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        match names.is_empty() {
            true => write!(f, "(no name, {})", self.platform()),
            false => write!(f, "{} ({})", names.join(" "), self.platform()),
        }
    }
}

/// Every image of a source.
///
/// # Errors
/// A document that is missing, isn't what its digest says, or can't be read; the message names it.
pub fn all(source: &Source) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    if let Some(index) = document(source, Path::new("index.json"), None)? {
        let index: ImageIndex = parse("index.json", &index)?;
        let mut left = MAX_ENTRIES;
        for entry in index.manifests() {
            collect(source, entry, &BTreeSet::new(), &mut left, 0, &mut images)?;
        }
        return Ok(images);
    }
    let Some(table) = document(source, Path::new("manifest.json"), None)? else {
        bail!("it has neither an index.json (OCI) nor a manifest.json (docker save)");
    };
    let table: Vec<Value> = parse("manifest.json", &table)?;
    table.iter().enumerate().map(|(n, entry)| saved(source, entry, n)).collect()
}

/// The one image that is meant.
///
/// # Errors
/// None fits, or several do: the message lists them.
pub fn choose(images: Vec<Image>, name: Option<&str>, platform: &str) -> Result<Image> {
    let list = |images: &[Image]| images.iter().map(Image::to_string).collect::<Vec<_>>().join(", ");
    let there = list(&images);
    let fits = |image: &Image| name.is_none_or(|name| image.is_called(name)) && image.is_for(platform);
    let mut found: Vec<Image> = images.into_iter().filter(fits).collect();
    let wanted = name.map_or(String::new(), |name| format!(" called {name}"));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!("there is no image{wanted} for {platform} in it; it has {there}"),
        _ => {
            bail!("there are several images{wanted} for {platform}; choose with --ref from {}", list(&found))
        }
    }
}

/// Adds what an index's entry leads to.
fn collect(
    source: &Source,
    entry: &Descriptor,
    names: &BTreeSet<String>,
    left: &mut usize,
    depth: usize,
    images: &mut Vec<Image>,
) -> Result<()> {
    *left = left.checked_sub(1).with_context(|| format!("it has more than {MAX_ENTRIES} manifests"))?;
    let digest = entry.digest().to_string();
    let own = entry.annotations().iter().flatten();
    let own = own.filter(|(key, _)| [FULL_NAME, REF_NAME].contains(&key.as_str()));
    let names: BTreeSet<String> = names.iter().cloned().chain(own.map(|(_, name)| name.clone())).collect();
    match entry.media_type().to_string().as_str() {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            ensure!(depth < MAX_DEPTH, "{digest}: indexes are nested too deeply");
            let index: ImageIndex = parse(&digest, &blob(source, entry)?)?;
            let mut below = index.manifests().iter();
            below.try_for_each(|entry| collect(source, entry, &names, left, depth + 1, images))
        }
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => {
            // What is said about another image (provenance, signatures) says so by its platform.
            let platform = entry.platform().as_ref();
            if platform.is_some_and(|platform| platform.os().to_string() == "unknown") {
                return Ok(());
            }
            // An archive may hold only some of the platforms that its index names.
            if platform.is_some() && source.file(&path_of(entry))?.is_none() {
                return Ok(());
            }
            images.push(of_manifest(source, entry, names).with_context(|| format!("manifest {digest}"))?);
            Ok(())
        }
        other => bail!("{digest}: unsupported media type {other}"),
    }
}

fn of_manifest(source: &Source, entry: &Descriptor, names: BTreeSet<String>) -> Result<Image> {
    let manifest: ImageManifest = parse("it", &blob(source, entry)?)?;
    let config = manifest.config();
    let name = config.digest().to_string();
    let configuration: ImageConfiguration = parse(&name, &blob(source, config)?)?;
    let diff_ids = configuration.rootfs().diff_ids();
    ensure!(
        diff_ids.len() == manifest.layers().len(),
        "it has {} layers, and its configuration {name} speaks of {}",
        manifest.layers().len(),
        diff_ids.len()
    );
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let name = layer.digest().to_string();
        let packing = Packing::of(layer.media_type()).with_context(|| format!("layer {name}"))?;
        Ok(Layer {
            path: path_of(layer),
            size: layer.size(),
            packing: Some(packing),
            digest: Some(Expected::new(&name)?),
            diff_id: Expected::new(diff_id)?,
            name,
        })
    });
    Ok(Image { names, layers: layers.collect::<Result<_>>()?, configuration })
}

/// An entry of `docker save`'s table: `{"Config": PATH, "RepoTags": [NAME…], "Layers": [PATH…]}`.
fn saved(source: &Source, entry: &Value, n: usize) -> Result<Image> {
    let strings = |key: &str| -> Vec<String> {
        let list = entry[key].as_array().into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let config =
        entry["Config"].as_str().with_context(|| format!("manifest.json: [{n}].Config is missing"))?;
    // The name is the digest, where it looks like one.
    let digest = config.trim_end_matches(".json").rsplit('/').next().unwrap_or_default();
    let digest = Expected::new(&format!("sha256:{digest}")).ok();
    let bytes = document(source, Path::new(config), digest)?
        .with_context(|| format!("{config} is missing, which manifest.json speaks of"))?;
    let configuration: ImageConfiguration = parse(config, &bytes)?;
    let (layers, diff_ids) = (strings("Layers"), configuration.rootfs().diff_ids());
    ensure!(
        layers.len() == diff_ids.len(),
        "manifest.json: [{n}].Layers has {} entries, and {config} speaks of {}",
        layers.len(),
        diff_ids.len()
    );
    let layers = layers.into_iter().zip(diff_ids).map(|(name, diff_id)| {
        let path = PathBuf::from(&name);
        Ok(Layer { path, name, size: 0, packing: None, digest: None, diff_id: Expected::new(diff_id)? })
    });
    Ok(Image {
        names: strings("RepoTags").into_iter().collect(),
        layers: layers.collect::<Result<_>>()?,
        configuration,
    })
}

fn path_of(entry: &Descriptor) -> PathBuf {
    let digest = entry.digest();
    Path::new("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
}

/// A document by its descriptor.
fn blob(source: &Source, entry: &Descriptor) -> Result<Vec<u8>> {
    let digest = entry.digest().to_string();
    document(source, &path_of(entry), Some(Expected::new(&digest)?))?
        .ok_or_else(|| anyhow!("blob {digest} is missing"))
}

/// A document that is what its digest says.
fn document(source: &Source, name: &Path, digest: Option<Expected>) -> Result<Option<Vec<u8>>> {
    let found = source.document(name).with_context(|| format!("read {}", name.display()))?;
    if let Some(bytes) = &found {
        Checked::new(&bytes[..], digest.as_ref()).verify().with_context(|| name.display().to_string())?;
    }
    Ok(found)
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| format!("{name} can't be read"))
}
