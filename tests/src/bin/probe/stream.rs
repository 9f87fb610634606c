//! Commands that move much data over standard streams, or hold them open.

use crate::consume::number;
use crate::{Answer, errno};
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// FNV-1a, 64 bits, one step.
fn mix(sum: u64, byte: u8) -> u64 {
    (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// `gush MIB`: writes that much to stdout, every eight bytes the count of those before them.
pub(crate) fn gush(args: &[String]) -> Answer {
    let mut out = std::io::stdout().lock();
    let mut block = Vec::with_capacity(1 << 16);
    for n in 0..number::<u64>(&args[0])? << 17 {
        block.extend(n.to_le_bytes());
        if block.len() == 1 << 16 {
            out.write_all(&block).map_err(errno)?;
            block.clear();
        }
    }
    out.flush().map_err(errno)?;
    std::process::exit(0);
}

/// `swallow`: reads stdin to its end, and tells how much came and its checksum.
pub(crate) fn swallow(_: &[String]) -> Answer {
    let (mut count, mut sum) = (0, 0xcbf2_9ce4_8422_2325);
    let mut block = [0; 1 << 16];
    loop {
        match std::io::stdin().lock().read(&mut block).map_err(errno)? {
            0 => return Ok(json!({ "bytes": count, "sum": format!("{sum:016x}") })),
            len => {
                count += len;
                sum = block[..len].iter().fold(sum, |sum, byte| mix(sum, *byte));
            }
        }
    }
}

/// `connect PATH`: connects to a unix socket, and tells how many bytes come before it is closed.
pub(crate) fn connect(args: &[String]) -> Answer {
    let mut socket = UnixStream::connect(&args[0]).map_err(errno)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(errno)?;
    let mut bytes = Vec::new();
    let len = socket.read_to_end(&mut bytes).map_err(errno)?;
    Ok(json!({ "bytes": len }))
}

/// `linger SECONDS`: leaves a child in the background that holds stdout and stderr open for so long.
pub(crate) fn linger(args: &[String]) -> Answer {
    let child = Command::new("/proc/self/exe").args(["sleep", &args[0]]).stdin(Stdio::null()).spawn();
    child.map_err(errno)?;
    Ok(json!("left"))
}
