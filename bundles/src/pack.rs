//! From a directory, or one file, to an OCI image archive, the same bytes every time.
//!
//! - [`layer`]: a tree as a layer, which is a tar archive;
//! - [`image`]: the documents around the layers, after the image-spec;
//! - [`archive`]: all of it in one file.

mod archive;
pub mod image;
mod layer;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

#[derive(Args)]
pub struct Pack {
    /// Program that a container runs, with --cmd as its arguments (repeat it for fixed arguments)
    #[arg(long, value_name = "CMD")]
    entrypoint: Vec<String>,
    /// Argument that a user may replace
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Environment variable
    #[arg(long, value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// User, or user:group, by name or number
    #[arg(long, value_name = "U")]
    user: Option<String>,
    /// Working directory
    #[arg(long, value_name = "D")]
    workdir: Option<String>,
    /// Label
    #[arg(long, value_name = "K=V", value_parser = pair)]
    label: Vec<(String, String)>,
    /// What TREE runs on, as linux/arm64; this machine when absent. With several trees, one for each, in their order
    #[arg(long, value_name = "P")]
    platform: Vec<String>,
    /// Name under which it is loaded, as ampoule/pause:0.1.0
    #[arg(long, value_name = "TAG")]
    r#ref: Option<String>,
    /// Directories or files, one for each platform, and the archive to write
    #[arg(value_name = "TREE OUT.tar", required = true)]
    paths: Vec<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is not of the form K=V")?;
    if key.is_empty() { Err("it has no key".into()) } else { Ok((key.into(), value.into())) }
}

/// Writes the archive.
///
/// # Errors
/// What can't be packed, by its path.
pub fn run(pack: Pack) -> Result<()> {
    let (out, trees) =
        pack.paths.split_last().filter(|(_, trees)| !trees.is_empty()).context("give TREE and OUT.tar")?;
    let host = [image::this_platform().to_owned()];
    let platforms = if pack.platform.is_empty() { &host[..] } else { &pack.platform };
    ensure!(
        trees.len() == platforms.len(),
        "{} trees for {} platforms: give one --platform for each",
        trees.len(),
        platforms.len()
    );
    let config = image::Config {
        entrypoint: pack.entrypoint,
        cmd: pack.cmd,
        env: pack.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        user: pack.user,
        workdir: pack.workdir,
        labels: pack.label.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let mut blobs = archive::Blobs::default();
    let mut images = Vec::new();
    for (tree, platform) in trees.iter().zip(platforms) {
        let layer = layer::of(tree).with_context(|| format!("pack {}", tree.display()))?;
        images.push(image::add(&mut blobs, &config, image::platform(platform)?, layer));
    }
    let name = pack.r#ref.as_deref();
    let index = image::index(&mut blobs, &images, name);
    let files = [
        ("oci-layout", image::layout()),
        ("index.json", index),
        ("manifest.json", image::docker_manifest(&images[0], name)),
    ];
    blobs.write(&files, out).with_context(|| format!("write {}", out.display()))
}
