//! Digests, checked while the bytes pass by.

use std::io::{self, Read};

use anyhow::{Result, bail, ensure};
use sha2::{Digest, Sha256, Sha512};

/// What bytes should hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha512,
}

impl Expected {
    /// From `sha256:…` or `sha512:…` (descriptor.md#registered-algorithms).
    ///
    /// # Errors
    /// It is neither, or isn't as long as it must be.
    pub fn new(text: &str) -> Result<Expected> {
        let (algorithm, hex) = text.split_once(':').unwrap_or((text, ""));
        let (algorithm, length) = match algorithm {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => bail!("{text:?} is no digest of a kind that is known here: sha256 or sha512"),
        };
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(hex.len() == length && is_hex, "{text:?} is no digest");
        Ok(Expected { algorithm, hex: hex.to_owned() })
    }
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{algorithm}:{}", self.hex)
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Sha512(hasher) => hex(&hasher.finalize()),
        }
    }
}

/// Bytes that are hashed as they are read, unless nobody knows what they should hash to.
pub struct Checked<R> {
    inner: R,
    check: Option<(Hasher, Expected)>,
}

impl<R: Read> Checked<R> {
    /// Reads from `inner`.
    pub fn new(inner: R, expected: Option<&Expected>) -> Self {
        let check = expected.map(|expected| {
            let hasher = match expected.algorithm {
                Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
                Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
            };
            (hasher, expected.clone())
        });
        Checked { inner, check }
    }

    /// Reads what nobody wanted, compares, and gives the reader back.
    ///
    /// # Errors
    /// The digest is another.
    pub fn verify(mut self) -> Result<R> {
        io::copy(&mut self, &mut io::sink())?;
        if let Some((hasher, expected)) = self.check {
            let found = hasher.finish();
            let is_right = found == expected.hex;
            ensure!(is_right, "its digest should be {expected} and is {found}: it is damaged");
        }
        Ok(self.inner)
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some((hasher, _)) = &mut self.check {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_an_algorithm_and_as_many_digits_as_it_has() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(Expected::new(&format!("sha256:{empty}")).is_ok());
        for wrong in ["", "sha256:", "sha256:00", "md5:00", "sha256:../../etc", &format!("sha512:{empty}")] {
            assert!(Expected::new(wrong).is_err(), "{wrong:?}");
        }
        let upper = format!("sha256:{}", empty.to_uppercase());
        assert!(Expected::new(&upper).is_err());
    }

    #[test]
    fn what_was_not_read_counts_too() {
        let empty =
            Expected::new("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
        Checked::new(&b""[..], Some(&empty)).verify().unwrap();
        let error = Checked::new(&b"more"[..], Some(&empty)).verify().unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
