//! Commands that use up processes, memory, CPU time or a disk, to show that limits hold.

use crate::{Answer, errno};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) fn number<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// `spawn N`: starts N sleeping children (that outlive the question) and tells how many it got.
pub(crate) fn spawn(args: &[String]) -> Answer {
    let wanted: usize = number(&args[0])?;
    for got in 0..wanted {
        let child = Command::new("/proc/self/exe").args(["sleep", "1000"]).stdout(Stdio::null()).spawn();
        if let Err(error) = child {
            return Ok(json!({ "spawned": got, "error": format!("{:?}", errno(error)) }));
        }
    }
    Ok(json!({ "spawned": wanted }))
}

/// `alloc MIB`: allocates and touches that much memory, then tells so if it still can.
pub(crate) fn alloc(args: &[String]) -> Answer {
    let mut memory = Vec::new();
    for _ in 0..number::<usize>(&args[0])? {
        // Not zeroes: those would be the shared zero page until written.
        memory.push(vec![1u8; 1 << 20]);
    }
    std::hint::black_box(&memory);
    Ok(json!("ok"))
}

/// `huge N`: maps and touches that many huge pages of 2 MiB.
pub(crate) fn huge(args: &[String]) -> Answer {
    crate::sys::touch_huge_pages(number(&args[0])?)?;
    Ok(json!("ok"))
}

/// `burn MILLISECONDS`: uses that much of a CPU, and tells how many milliseconds it took by the clock.
pub(crate) fn burn(args: &[String]) -> Answer {
    let used = || clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from);
    // Not from zero: before it became this program, the process was the runtime's.
    let (began, end) = (Instant::now(), used()? + Duration::from_millis(number(&args[0])?));
    while used()? < end {}
    Ok(json!(began.elapsed().as_millis() as u64))
}

/// `direct PATH MIB`: writes that much to the disk, past all caches, and tells how many milliseconds it took.
pub(crate) fn direct(args: &[String]) -> Answer {
    let buffer = vec![1u8; (1 << 20) + 4096];
    // The kernel wants whole blocks, at addresses of whole blocks.
    let start = buffer.as_ptr().align_offset(4096);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(nix::libc::O_DIRECT)
        .open(&args[0])
        .map_err(errno)?;
    let began = Instant::now();
    for _ in 0..number::<usize>(&args[1])? {
        file.write_all(&buffer[start..start + (1 << 20)]).map_err(errno)?;
    }
    Ok(json!(began.elapsed().as_millis() as u64))
}
