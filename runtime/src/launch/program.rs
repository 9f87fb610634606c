//! In the new process: finding the program, and becoming it.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, anyhow, bail};
use linux::process;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, faccessat};

use super::root::open_regular;

const MAX_PASSWD: u64 = 1 << 20;

/// The file to execute for `name`: itself when it has a slash, else the first in `path`, PATH's value, that may be executed.
///
/// # Errors
/// The words that engines look for: `no such file or directory`, `permission denied`, `executable file not found in
/// $PATH`.
pub(super) fn find(name: &str, path: &str) -> Result<String> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(e) => Err(anyhow!("exec {name}: {}", words(e))),
        };
    }
    let mut refused = None;
    for dir in path.split(':') {
        let candidate = if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => refused = Some(candidate),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(e) => bail!("exec {candidate}: {}", words(e)),
        }
    }
    match refused {
        Some(candidate) => bail!("exec {candidate}: {}", words(Errno::EACCES)),
        None => bail!("exec {name}: executable file not found in $PATH ({path})"),
    }
}

/// An error as Go spells it: docker's client, which makes 126 or 127 of it, looks for these words in small letters only.
fn words(errno: Errno) -> String {
    format!("{errno:?}: {}", errno.desc().to_ascii_lowercase())
}

fn executable(path: &str) -> Result<(), Errno> {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)?;
    // A directory may be "executed", too.
    match stat(path)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() {
        true => Ok(()),
        false => Err(Errno::EACCES),
    }
}

/// Replaces this process by the program; returns only the reason why not.
pub(super) fn exec(file: &str, args: &[String], env: &[String]) -> anyhow::Error {
    let strings =
        |all: &[String]| all.iter().map(|s| CString::new(s.as_str())).collect::<Result<Vec<_>, _>>();
    let parts = || Ok::<_, std::ffi::NulError>((CString::new(file)?, strings(args)?, strings(env)?));
    let (path, args, env) = match parts() {
        Ok(parts) => parts,
        Err(e) => return anyhow!("exec {file}: {e}"),
    };
    let errno = process::execve(&path, &args, &env);
    let why = words(errno);
    match (errno, interpreter(file)) {
        (Errno::ENOENT | Errno::EACCES | Errno::ELIBBAD, Some(needs)) if is_missing(&needs) => {
            anyhow!("exec {file}: {why}: it is there, but its interpreter {needs} is not")
        }
        (Errno::ENOEXEC, _) => {
            anyhow!("exec {file}: {why}: neither a program for this machine nor a script with #!")
        }
        _ => anyhow!("exec {file}: {why}"),
    }
}

fn is_missing(path: &str) -> bool {
    matches!(stat(path), Err(Errno::ENOENT | Errno::ENOTDIR))
}

/// What the file needs to run: a script's `#!` line, or an ELF file's PT_INTERP (elf(5)).
fn interpreter(file: &str) -> Option<String> {
    // Only to say more about an error that is reported in any case.
    let file = File::from(open_regular(AT_FDCWD, file, OFlag::empty()).ok()??);
    let mut head = Vec::new();
    (&file).take(4096).read_to_end(&mut head).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|b| *b == b'\n').next()?).into_owned();
        return line.split_whitespace().next().map(str::to_owned);
    }
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (table, size, count) = (u64_at(32)? as usize, u16_at(54)? as usize, u16_at(56)? as usize);
    const PT_INTERP: u32 = 3;
    for header in (0..count).map_while(|n| table.checked_add(n * size)) {
        if head.get(header..)?.starts_with(&PT_INTERP.to_le_bytes()) {
            let mut path = vec![0u8; (u64_at(header + 32)?).min(4096) as usize];
            file.read_exact_at(&mut path, u64_at(header + 8)?).ok()?;
            return Some(String::from_utf8_lossy(&path).trim_end_matches('\0').to_owned());
        }
    }
    None
}

/// The user's home in the container's own /etc/passwd, `/` without an entry. At most 1 MiB of it is read.
///
/// # Errors
/// Those of the host, when there is a file.
pub(super) fn home(uid: u32) -> Result<String> {
    let nobody = "/".to_owned();
    let file = match open_regular(AT_FDCWD, "/etc/passwd", OFlag::empty()) {
        Ok(Some(file)) => File::from(file),
        // A FIFO or a device holds no entries.
        Ok(None) => return Ok(nobody),
        // It says nothing to a user who may not read it, and neither does a link that leads nowhere.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::EPERM | Errno::ELOOP | Errno::ENXIO) => {
            return Ok(nobody);
        }
        Err(e) => return Err(e).context("open /etc/passwd"),
    };
    let mut text = Vec::new();
    file.take(MAX_PASSWD).read_to_end(&mut text).context("read /etc/passwd")?;
    if text.len() as u64 == MAX_PASSWD {
        // Half a line may be anybody's.
        text.truncate(text.iter().rposition(|b| *b == b'\n').unwrap_or(0));
    }
    let text = String::from_utf8_lossy(&text);
    let home = text.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()?.parse() == Ok(uid)).then(|| fields.nth(2))?
    });
    Ok(home.filter(|home| !home.is_empty()).map_or(nobody, str::to_owned))
}
