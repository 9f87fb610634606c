//! `ampoule-manual DIR`: writes the manual pages and the completion of three shells into a folder like `/usr/share`,
//! from the definition of the command line, so that they can't be wrong about it.

mod completion;
mod page;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let share: PathBuf = std::env::args_os().nth(1).context("usage: ampoule-manual DIR")?.into();
    let mut command = ampoule::cli::command();
    // Gives every verb its full name, and all of them --help.
    command.build();
    for (name, text) in page::all(&command)? {
        write(&share, &format!("man/man8/{name}.8"), text)?;
    }
    for (path, text) in completion::all(command) {
        write(&share, path, text)?;
    }
    Ok(())
}

fn write(share: &Path, path: &str, text: String) -> Result<()> {
    let path = share.join(path);
    let folder = path.parent().unwrap_or(share);
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
