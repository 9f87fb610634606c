//! A bundle: a directory with config.json and, usually, the root filesystem (bundle.md).

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::spec::{self, Spec};

/// More than any engine writes; a file without end must not eat the host's memory.
const MAX_CONFIG: u64 = 16 << 20;

/// The bytes of config.json and where they came from.
pub struct Bundle {
    /// Absolute, without symlinks.
    pub dir: PathBuf,
    bytes: Vec<u8>,
}

impl Bundle {
    /// Reads `dir`'s config.json.
    ///
    /// # Errors
    /// The directory or the file is missing, unreadable or over 16 MiB.
    pub fn open(dir: &Path) -> Result<Bundle> {
        let dir = dir.canonicalize().with_context(|| format!("open bundle {}", dir.display()))?;
        let path = dir.join("config.json");
        // A fifo would keep us waiting for somebody who writes, and so would reading it.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let kind = file.metadata().with_context(|| format!("stat {}", path.display()))?.file_type();
        if kind.is_fifo() {
            bail!("{}: is a fifo, and no file", path.display());
        }
        let mut bytes = Vec::with_capacity(16 << 10);
        file.take(MAX_CONFIG + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {}", path.display()))?;
        if bytes.len() as u64 > MAX_CONFIG {
            bail!("{}: larger than {} MiB", path.display(), MAX_CONFIG >> 20);
        }
        Ok(Bundle { dir, bytes })
    }

    /// config.json, typed.
    ///
    /// # Errors
    /// The JSON path, what was found and what was expected; a version that this runtime can't read.
    pub fn spec(&self) -> Result<Spec<'_>> {
        let spec = spec::parse(&self.bytes).map_err(|e| anyhow!("{}: {e}", self.config()))?;
        // Versions are semver (config.md#specification-version): a newer minor only adds what may be ignored.
        let major = spec.oci_version.split('.').next().unwrap_or_default();
        match major {
            "1" => Ok(spec),
            "" => bail!("{}: ociVersion: missing", self.config()),
            _ => bail!("{}: ociVersion: {:?}, expected 1.x", self.config(), &*spec.oci_version),
        }
    }

    /// config.json, as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The path of config.json, for messages.
    pub fn config(&self) -> String {
        self.dir.join("config.json").display().to_string()
    }
}
