//! What a container uses, as `events` tells it: one shape for both generations of cgroups, that of runc's
//! types/events.go (1.5), where zero mostly means left out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use linux::absent::{entries, exists};
use linux::kernfs;
use nix::errno::Errno;
use serde::Serialize;

mod v1;
mod v2;

/// All that is counted. Times are nanoseconds, sizes bytes, since the container began; `u64::MAX` is no limit.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: CpuSet,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: Blkio,
    /// By page size: `2MB`.
    pub hugetlb: BTreeMap<String, HugeTlb>,
    intel_rdt: IntelRdt,
    /// runc's own veth networks, which no bundle asks for.
    network_interfaces: Option<()>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct IntelRdt {}

#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// How long processes waited (Documentation/accounting/psi.rst): some of them, or all.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Psi {
    pub some: Pressure,
    pub full: Pressure,
}

/// Averages in percent; the total is in microseconds, as the kernel has it.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Pressure {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// v1 only, as runc has it.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: Amount,
    /// Memory and swap together, on v2 too.
    pub swap: Amount,
    pub kernel: Amount,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Amount,
    /// memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Amount {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// Here, no limit is 0.
#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "runc's own names")]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "runc's own names")]
pub struct HugeTlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One directory's files by name. None: there is no such file, or it is gone with the container.
type Files<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the files of a container's directories, one in every hierarchy.
///
/// # Errors
/// One that is there can't be read.
pub fn read(dirs: &[PathBuf]) -> Result<Stats> {
    let page_sizes = page_sizes()?;
    let mut stats = Stats::default();
    // v2 counts CPU time even where it has no controller to give: what v1 has there counts more, and comes later.
    let (mut newer, mut older) = (Vec::new(), Vec::new());
    for dir in dirs {
        let file = dir.join("cgroup.controllers");
        let is_new = exists(&file).with_context(|| format!("stat {}", file.display()))?;
        if is_new { newer.push(dir) } else { older.push(dir) }
    }
    for (dirs, read) in [(newer, v2::read as Reader), (older, v1::read)] {
        for dir in dirs {
            read_one(dir, read, &page_sizes, &mut stats)?;
        }
    }
    Ok(stats)
}

type Reader = fn(Files<'_>, &[String], &mut Stats);

/// One error is told, of those that make what is read worthless.
fn read_one(dir: &Path, read: Reader, page_sizes: &[String], stats: &mut Stats) -> Result<()> {
    let failed = Cell::new(None);
    let file = |name: &str| {
        let path = dir.join(name);
        match kernfs::read(&path) {
            Ok(text) => Some(text),
            // EOPNOTSUPP: what a threaded group can't tell, or a kernel that was told not to count it.
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => None,
            Err(e) => {
                failed.set(Some(anyhow!("read {}: {e}", path.display())));
                None
            }
        }
    };
    read(&file, page_sizes, stats);
    failed.into_inner().map_or(Ok(()), Err)
}

/// The sizes of huge pages that this host has, as cgroup files spell them.
fn page_sizes() -> Result<Vec<String>> {
    const DIR: &str = "/sys/kernel/mm/hugepages";
    let entries = entries(Path::new(DIR)).with_context(|| format!("read {DIR}"))?;
    Ok(entries.iter().filter_map(|e| page_size(e.file_name().to_str()?)).collect())
}

/// `hugepages-2048kB` → `2MB` (mm/hugetlb_cgroup.c: mem_fmt).
fn page_size(name: &str) -> Option<String> {
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kib {
        0x10_0000.. => format!("{}GB", kib >> 20),
        0x400.. => format!("{}MB", kib >> 10),
        _ => format!("{kib}KB"),
    })
}

// Not inlined: there are some thirty callers of these, and it is a tenth of the code then.

/// A file that holds one number; no limit is the largest, and what can't be read is 0.
#[inline(never)]
fn number(text: Option<String>) -> u64 {
    text.map_or(0, |text| word(text.trim_end()))
}

#[inline(never)]
fn word(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

/// `NAME NUMBER` a line.
#[inline(never)]
fn pairs(text: &str) -> Vec<(&str, u64)> {
    text.lines().filter_map(|line| line.split_once(' ').map(|(name, value)| (name, word(value)))).collect()
}

/// `pids.max`, where no limit is 0.
fn pids(current: String, files: Files<'_>) -> Pids {
    let limit = number(files("pids.max"));
    Pids { current: word(current.trim_end()), limit: if limit == u64::MAX { 0 } else { limit } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_spelt_as_the_kernel_names_its_files() {
        for (name, size) in
            [("hugepages-64kB", "64KB"), ("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB")]
        {
            assert_eq!(page_size(name).unwrap(), size);
        }
        assert_eq!(page_size("other"), None);
    }

    #[test]
    fn what_is_not_there_is_zero_or_left_out_as_runc_has_it() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        let amount = r#"{"limit":0,"failcnt":0}"#;
        let expected = [
            r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
            r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#,
            r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#,
            r#""sched_relax_domain_level":0},"#,
            &format!(
                r#""memory":{{"usage":{amount},"swap":{amount},"kernel":{amount},"kernelTCP":{amount}}},"#
            ),
            r#""pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#,
        ];
        assert_eq!(text, expected.concat());
    }
}
