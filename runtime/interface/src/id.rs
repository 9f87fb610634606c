//! A validated container id.

use std::fmt;

use anyhow::{Result, bail};

/// The name of a container: a file name of runc's alphabet. It names the state directory and the cgroup, so it can
/// be neither a path nor a surprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(String);

/// runc takes up to 1024 bytes, but a directory of that name can't be made.
const MAX: usize = 255;

impl Id {
    /// # Errors
    /// What is wrong with the id, and what one may look like.
    pub fn new(id: &str) -> Result<Id> {
        if id.is_empty() {
            bail!("invalid container id \"\": it cannot be empty");
        }
        if id.len() > MAX {
            bail!(
                "invalid container id {:?}…: {} bytes, expected at most {MAX}",
                id.chars().take(32).collect::<String>(),
                id.len()
            );
        }
        if id == "." || id == ".." {
            bail!("invalid container id {id:?}: it is a directory's name for itself");
        }
        match id.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.'))) {
            Some(c) => {
                bail!("invalid container id {id:?}: {c:?} is not allowed; expected letters, digits, _ + - .")
            }
            None => Ok(Id(id.to_owned())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names_of_a_small_alphabet() {
        for good in ["a", "web-1", "a.b_c+d", "..a", &"x".repeat(255)] {
            assert!(Id::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", "../x", &"x".repeat(256)] {
            assert!(Id::new(bad).is_err(), "{bad}");
        }
    }
}
