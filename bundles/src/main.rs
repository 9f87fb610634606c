//! `ampoule-bundle`: the command line, and [`pack`], from directories to images. The library has all else.

#![forbid(unsafe_code)]

mod pack;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use ampoule_bundle::{apply, inspect, store, unpack};
use anyhow::Result;
use clap::{Args, Parser};
use interface::line::one_line;

/// Between images and bundles.
#[derive(Parser)]
#[command(name = "ampoule-bundle", version)]
enum Command {
    /// Make a bundle of an image: an OCI layout, an OCI archive, or what `docker save` writes
    Unpack(Unpack),
    /// Make a reproducible OCI image archive of a directory, or of one file (as /NAME). Everything in it belongs to
    /// root and is of 1970. containerd, podman, docker and skopeo take it.
    Pack(pack::Pack),
    /// Print an image's names, platform, configuration and layers
    Inspect {
        /// For programs
        #[arg(long)]
        json: bool,
        /// Directory or archive
        image: PathBuf,
    },
    /// Mount the root filesystem of a bundle that `unpack --overlay` made
    Mount {
        /// The bundle
        dir: PathBuf,
    },
    /// Unmount it again; what was changed stays in the bundle
    Umount {
        /// The bundle
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Unpack {
    /// Which image, when there are several: its name or tag
    #[arg(long, value_name = "TAG")]
    r#ref: Option<String>,
    /// Which platform, as linux/arm64; this machine's when absent
    #[arg(long, value_name = "P")]
    platform: Option<String>,
    /// Share layers with other bundles; mount the bundle before it is run
    #[arg(long)]
    overlay: bool,
    /// Where shared layers are kept
    #[arg(long, value_name = "DIR", requires = "overlay", default_value = "/var/lib/ampoule/layers")]
    store: PathBuf,
    /// Refuse an image with more files and directories than this
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    max_entries: u64,
    /// Refuse an image that unpacks to more MiB than this
    #[arg(long, value_name = "MIB", default_value_t = 65_536)]
    max_size: u64,
    /// Directory or archive
    image: PathBuf,
    /// The bundle to make
    dir: PathBuf,
    /// Replaces the arguments that the image has by default (its Cmd)
    #[arg(last = true, value_name = "ARG")]
    args: Vec<String>,
}

fn main() -> ExitCode {
    let (verb, result) = match Command::parse() {
        Command::Unpack(wanted) => ("unpack", unpack(&wanted)),
        Command::Pack(wanted) => ("pack", pack::run(wanted)),
        Command::Inspect { json, image } => ("inspect", inspect(&image, json)),
        Command::Mount { dir } => ("mount", store::mount_bundle(&dir)),
        Command::Umount { dir } => ("umount", store::umount_bundle(&dir)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ampoule-bundle: {verb} {}", one_line(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn unpack(args: &Unpack) -> Result<()> {
    let options = unpack::UnpackOptions {
        image: &args.image,
        name: args.r#ref.as_deref(),
        platform: args.platform.as_deref().unwrap_or(pack::image::this_platform()),
        args: &args.args,
        limits: apply::Limits { entries: args.max_entries, bytes: args.max_size.saturating_mul(1 << 20) },
    };
    match args.overlay {
        true => unpack::overlay(&options, &store::Store::new(args.store.clone()), &args.dir),
        false => unpack::flat(&options, &args.dir),
    }
}

fn inspect(image: &std::path::Path, as_json: bool) -> Result<()> {
    let text = match as_json {
        true => format!("{:#}\n", inspect::json(image)?),
        false => inspect::text(image)?,
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
