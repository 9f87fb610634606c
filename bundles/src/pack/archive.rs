//! An image archive: a tar of an OCI image layout, whose blobs are named by their digest.

use anyhow::Result;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Blobs by the SHA-256 of their bytes, in hexadecimal.
#[derive(Default)]
pub struct Blobs(BTreeMap<String, Vec<u8>>);

/// What identifies a blob.
#[derive(Clone)]
pub struct Blob {
    /// `sha256:…`
    pub digest: String,
    /// Bytes.
    pub size: usize,
}

impl Blob {
    /// Its path in the archive.
    pub fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

impl Blobs {
    /// Adds a blob.
    pub fn add(&mut self, bytes: Vec<u8>) -> Blob {
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let blob = Blob { digest: format!("sha256:{hex}"), size: bytes.len() };
        self.0.insert(hex, bytes);
        blob
    }

    /// Writes the archive: these files, then the blobs. It appears whole or not at all.
    pub fn write(&self, files: &[(&str, Value)], out: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, document) in files {
            append(&mut tar, name, document.to_string().as_bytes())?;
        }
        for (hex, bytes) in &self.0 {
            append(&mut tar, &format!("blobs/sha256/{hex}"), bytes)?;
        }
        let mut partial = out.as_os_str().to_owned();
        partial.push(".partial");
        let written = fs::write(&partial, tar.into_inner()?).and_then(|()| fs::rename(&partial, out));
        if written.is_err() {
            // The first error is the one to report.
            let _ = fs::remove_file(&partial);
        }
        Ok(written?)
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    Ok(tar.append_data(&mut header, path, bytes)?)
}
