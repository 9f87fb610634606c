//! What others answer: the bus, CRIU, the kernel; and what people write as amounts.

#![allow(dead_code, missing_docs, reason = "files of the runtime, of which only some is called here")]

#[path = "../../../runtime/src/container/criu/request.rs"]
mod request;
#[path = "../../../runtime/src/cli/units.rs"]
mod units;
#[path = "../../../runtime/src/container/criu/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;

use ampoule::facts::probe;
use cgroup::{layout, stats};
use dbus::wire as bus;
use interface::id::Id;
use linux::rtnetlink::addresses_in;

use crate::guarded_dir::GuardedDir;

/// Messages, of a kind that the first byte says.
pub fn wires(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => message_of_the_bus(bytes),
        1 => answer_of_criu(bytes),
        _ => {
            for address in addresses_in(bytes, 1) {
                assert!(format!("{address:?}").len() <= 64 * bytes.len());
            }
        }
    }
}

fn message_of_the_bus(bytes: &[u8]) {
    if let Some(Ok(prefix)) = bytes.get(..bus::PREFIX).map(TryInto::try_into)
        && let Ok(length) = bus::whole_length(prefix)
    {
        assert!((bus::PREFIX..=2 * bus::MAX_MESSAGE + 32).contains(&length), "{length} bytes");
    }
    match bus::decode(bytes) {
        Ok(bus::Message::Reply { texts, .. } | bus::Message::Signal { texts, .. }) => {
            assert!(texts.iter().map(String::len).sum::<usize>() <= bytes.len());
        }
        Ok(_) => {}
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
}

fn answer_of_criu(bytes: &[u8]) {
    if let Ok(said) = request::Response::decode(bytes) {
        // A byte that is no UTF-8 becomes three.
        assert!(said.script.len() <= 3 * bytes.len() && said.features.len() <= bytes.len());
    }
}

/// Files of procfs and of cgroups, of a kind that the first byte says; a zero byte ends each.
pub fn kernel_files(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let mut files = text.split('\0');
    match kind % 4 {
        0 => {
            let layout =
                layout::parse(files.next().unwrap_or_default(), files.next().unwrap_or_default(), |_| {
                    Ok(vec!["memory".to_owned()])
                });
            let layout = match layout {
                Ok(layout) => layout,
                Err(e) => return crate::one_line(&format!("{e:#}")),
            };
            layout.hierarchies.iter().for_each(|tree| assert!(tree.own.starts_with('/'), "{tree:?}"));
        }
        1 => {
            let manager =
                probe::manager(7, files.next().unwrap_or_default(), files.next().unwrap_or_default());
            assert!(!manager.root.ends_with('/') || manager.root == "/", "{manager:?}");
        }
        kind => {
            let place = GuardedDir::new();
            if kind == 3 {
                put(&place.dir(), "cgroup.controllers", "");
            }
            while let (Some(name), Some(content)) = (files.next(), files.next()) {
                put(&place.dir(), name, content);
            }
            match stats::read(&[place.dir()]) {
                Ok(stats) => {
                    let told = serde_json::to_string(&stats).expect("statistics as JSON");
                    assert!(!told.contains("NaN"));
                }
                Err(e) => crate::one_line(&format!("{e:#}")),
            }
        }
    }
}

/// A file of a cgroup; any other name is none.
fn put(dir: &Path, name: &str, content: &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    if name.len() < 64 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_name) {
        fs::write(dir.join(name), content).expect("write a file of a cgroup");
    }
}

/// Amounts, lengths of time and names, as people write them.
pub fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match units::bytes(text) {
        Ok(-1) => assert_eq!(text, "-1"),
        Ok(amount) => assert_eq!(Some(i128::from(amount)), naively(text), "{text:?}"),
        Err(e) => crate::one_line(&e),
    }
    if let Some(time) = units::duration(text) {
        assert!((1..=i64::MAX as u128).contains(&time.as_nanos()), "{text:?}");
    }
    match Id::new(text) {
        Ok(id) => assert!(id.as_str() == text && !text.contains('/') && !matches!(text, "." | "..")),
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
}

/// Digits, a point and digits, a unit: digit by digit, without anything to overflow.
fn naively(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[end..].trim_start().to_ascii_lowercase();
    let power = "bkmgtp".find(unit.chars().next().unwrap_or('b'))?;
    let scale = 1_i128 << (10 * power);
    let (whole, part) = text[..end].split_once('.').unwrap_or((&text[..end], ""));
    let digit = |c: char| i128::from(c.to_digit(10).unwrap_or(0));
    let whole = whole.chars().fold(0, |sum, c| sum * 10 + digit(c));
    // Units are powers of two: digits behind those can only matter where they carry, and they are cut off.
    let part: String = part.chars().take(15).collect();
    let fraction = part.chars().fold(0, |sum, c| sum * 10 + digit(c));
    Some(whole * scale + fraction * scale / 10_i128.pow(part.len() as u32))
}
