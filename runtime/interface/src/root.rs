//! Where containers are kept.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use linux::credentials::in_user_namespace;

/// The default of `--root`. An ordinary user has a directory of his own below /run, if somebody made it.
///
/// # Errors
/// It can't be told whether the caller is rootless.
pub fn default_root(rootless: Option<bool>) -> Result<PathBuf> {
    let uid = nix::unistd::geteuid();
    // root of a user namespace may be root of a whole machine in there, or an ordinary user's: USER tells (as in runc).
    let is_users = || std::env::var_os("USER").is_none_or(|user| user != "root");
    let rootless = match rootless {
        Some(word) => word,
        None if !uid.is_root() => true,
        None => {
            std::env::var_os("XDG_RUNTIME_DIR").is_some()
                && is_users()
                && in_user_namespace().context("read /proc/self/ns/user")?
        }
    };
    Ok(match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if !rootless => PathBuf::from("/run/ampoule"),
        Some(dir) => Path::new(&dir).join("ampoule"),
        None => PathBuf::from(format!("/run/user/{uid}/ampoule")),
    })
}
