//! Commands that report what the process was given: arguments, environment, namespaces, descriptors, terminal; and any system
//! call's result.

use crate::{Answer, errno};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use std::fs;

/// All of argv, the program's own name included.
pub(crate) fn args(_: &[String]) -> Answer {
    Ok(json!(std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>()))
}

/// The environment as the kernel holds it, in order, duplicates kept.
pub(crate) fn env(_: &[String]) -> Answer {
    let bytes = fs::read("/proc/self/environ").map_err(errno)?;
    let entries = bytes.split(|b| *b == 0).filter(|e| !e.is_empty());
    Ok(json!(entries.map(|e| String::from_utf8_lossy(e).into_owned()).collect::<Vec<_>>()))
}

pub(crate) fn cwd(_: &[String]) -> Answer {
    Ok(json!(std::env::current_dir().map_err(errno)?))
}

/// `{"pid": "pid:[4026531836]", …}`.
pub(crate) fn namespaces(_: &[String]) -> Answer {
    let mut all = Map::new();
    for entry in fs::read_dir("/proc/self/ns").map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let link = fs::read_link(entry.path()).map_err(errno)?;
        all.insert(entry.file_name().to_string_lossy().into_owned(), json!(link));
    }
    Ok(Value::Object(all))
}

pub(crate) fn uname(_: &[String]) -> Answer {
    let name = nix::sys::utsname::uname()?;
    Ok(json!({
        "hostname": name.nodename().to_string_lossy(),
        "domainname": name.domainname().to_string_lossy(),
        "machine": name.machine().to_string_lossy(),
    }))
}

/// Every open descriptor and what it refers to, without the one that reads the list.
pub(crate) fn descriptors(_: &[String]) -> Answer {
    let mut all = Map::new();
    for entry in fs::read_dir("/proc/self/fd").map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let reads_the_list = link.starts_with("/proc") && link.ends_with("fd");
        if !reads_the_list {
            all.insert(entry.file_name().to_string_lossy().into_owned(), json!(link));
        }
    }
    Ok(Value::Object(all))
}

/// The terminal on stdin: its size, its name, whether it is the controlling one.
pub(crate) fn terminal(_: &[String]) -> Answer {
    use std::io::IsTerminal;
    let size = crate::sys::window_size()?;
    Ok(json!({
        "stdin": std::io::stdin().is_terminal(),
        "stdout": std::io::stdout().is_terminal(),
        "stderr": std::io::stderr().is_terminal(),
        "name": fs::read_link("/proc/self/fd/0").map_err(errno)?,
        "controlling": fs::File::open("/dev/tty").is_ok(),
        "rows": size.0,
        "columns": size.1,
    }))
}

/// Seconds of the clocks that a time namespace may shift.
pub(crate) fn clocks(_: &[String]) -> Answer {
    Ok(json!({
        "monotonic": clock_gettime(ClockId::CLOCK_MONOTONIC)?.tv_sec(),
        "boottime": clock_gettime(ClockId::CLOCK_BOOTTIME)?.tv_sec(),
    }))
}

/// `syscall NUMBER ARG…`, as the kernel answers it.
pub(crate) fn system_call(args: &[String]) -> Answer {
    let mut words = args.iter().map(|word| word.parse::<u64>().map_err(|_| Errno::EINVAL));
    let number = words.next().unwrap_or(Err(Errno::EINVAL))?;
    let mut given = [0; 6];
    for (place, word) in given.iter_mut().zip(words) {
        *place = word?;
    }
    crate::sys::system_call(number, given).map(|result| json!(result))
}

/// `syscall32 NUMBER`: by i386's gate.
pub(crate) fn system_call_32(args: &[String]) -> Answer {
    let number = args[0].parse().map_err(|_| Errno::EINVAL)?;
    crate::sys::system_call_32(number).map(|result| json!(result))
}
