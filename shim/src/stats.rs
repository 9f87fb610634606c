//! What a container uses, as containerd's metrics tell it: in the shape of cgroup v1's or of v2's, whichever the host is.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cgroup::stats::{self, Amount, Blkio, BlkioEntry, Psi, Stats};
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use linux::absent::{absent, exists};

use crate::events::packed;

/// Reads the files of a container's cgroups.
///
/// # Errors
/// One that is there can't be read.
pub fn read(cgroups: &[PathBuf]) -> Result<Any> {
    let stats = stats::read(cgroups)?;
    // A hybrid host's v2 hierarchy counts nothing that matters.
    for dir in cgroups {
        let file = dir.join("cgroup.controllers");
        if !exists(&file).with_context(|| format!("stat {}", file.display()))? {
            return Ok(packed("io.containerd.cgroups.v1", &as_v1(stats)));
        }
    }
    let mut events = String::new();
    for file in cgroups.iter().map(|dir| dir.join("memory.events")) {
        let text = absent(fs::read_to_string(&file)).with_context(|| format!("read {}", file.display()))?;
        events += &text.unwrap_or_default();
    }
    Ok(packed("io.containerd.cgroups.v2", &as_v2(stats, &events)))
}

/// Sets fields from memory.stat's words: `field` where both have one name, `field = word` else.
macro_rules! from_words {
    ($target:ident, $words:expr; $($field:ident $(= $word:literal)?),* $(,)?) => {
        $( $target.$field = $words.get(from_words!(@ $field $($word)?)).copied().unwrap_or(0); )*
    };
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $word:literal) => { $word };
}

fn as_v1(stats: Stats) -> v1::Metrics {
    let (usage, throttling) = (stats.cpu.usage, stats.cpu.throttling);
    let usage = v1::CPUUsage {
        total: usage.total,
        kernel: usage.kernel,
        user: usage.user,
        per_cpu: usage.percpu,
        ..Default::default()
    };
    let throttling = v1::Throttle {
        periods: throttling.periods,
        throttled_periods: throttling.throttled_periods,
        throttled_time: throttling.throttled_time,
        ..Default::default()
    };
    let cpu = v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..Default::default()
    };
    let pids = v1::PidsStat { current: stats.pids.current, limit: stats.pids.limit, ..Default::default() };
    let hugetlb = stats.hugetlb.into_iter().map(|(pagesize, page)| v1::HugetlbStat {
        usage: page.usage,
        max: page.max,
        failcnt: page.failcnt,
        pagesize,
        ..Default::default()
    });
    v1::Metrics {
        hugetlb: hugetlb.collect(),
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory_v1(&stats.memory)),
        blkio: MessageField::some(blkio_v1(stats.blkio)),
        ..Default::default()
    }
}

fn memory_v1(memory: &stats::Memory) -> v1::MemoryStat {
    let entry = |amount: &Amount| {
        MessageField::some(v1::MemoryEntry {
            limit: amount.limit,
            usage: amount.usage,
            max: amount.max,
            failcnt: amount.failcnt,
            ..Default::default()
        })
    };
    let mut stat = v1::MemoryStat {
        usage: entry(&memory.usage),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
        ..Default::default()
    };
    from_words!(stat, memory.raw;
        cache, rss, rss_huge, mapped_file, dirty, writeback, pg_pg_in = "pgpgin", pg_pg_out = "pgpgout",
        pg_fault = "pgfault", pg_maj_fault = "pgmajfault", inactive_anon, active_anon, inactive_file,
        active_file, unevictable, hierarchical_memory_limit,
        hierarchical_swap_limit = "hierarchical_memsw_limit", total_cache, total_rss, total_rss_huge,
        total_mapped_file, total_dirty, total_writeback, total_pg_pg_in = "total_pgpgin",
        total_pg_pg_out = "total_pgpgout", total_pg_fault = "total_pgfault",
        total_pg_maj_fault = "total_pgmajfault", total_inactive_anon, total_active_anon,
        total_inactive_file, total_active_file, total_unevictable,
    );
    stat
}

fn blkio_v1(blkio: Blkio) -> v1::BlkIOStat {
    let entries = |list: Vec<BlkioEntry>| {
        let entry = |e: BlkioEntry| v1::BlkIOEntry {
            op: e.op,
            major: e.major,
            minor: e.minor,
            value: e.value,
            ..Default::default()
        };
        list.into_iter().map(entry).collect()
    };
    v1::BlkIOStat {
        io_service_bytes_recursive: entries(blkio.io_service_bytes_recursive),
        io_serviced_recursive: entries(blkio.io_serviced_recursive),
        io_queued_recursive: entries(blkio.io_queued_recursive),
        io_service_time_recursive: entries(blkio.io_service_time_recursive),
        io_wait_time_recursive: entries(blkio.io_wait_time_recursive),
        io_merged_recursive: entries(blkio.io_merged_recursive),
        io_time_recursive: entries(blkio.io_time_recursive),
        sectors_recursive: entries(blkio.sectors_recursive),
        ..Default::default()
    }
}

/// `events` is memory.events.
fn as_v2(stats: Stats, events: &str) -> v2::Metrics {
    let pids = v2::PidsStat { current: stats.pids.current, limit: stats.pids.limit, ..Default::default() };
    let (usage, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    let cpu = v2::CPUStat {
        usage_usec: usage.total / 1000,
        user_usec: usage.user / 1000,
        system_usec: usage.kernel / 1000,
        nr_periods: throttling.periods,
        nr_throttled: throttling.throttled_periods,
        throttled_usec: throttling.throttled_time / 1000,
        psi: pressure(stats.cpu.psi.as_ref()),
        ..Default::default()
    };
    let hugetlb = stats.hugetlb.into_iter().map(|(pagesize, page)| v2::HugeTlbStat {
        current: page.usage,
        max: page.max,
        failcnt: page.failcnt,
        pagesize,
        ..Default::default()
    });
    v2::Metrics {
        pids: MessageField::some(pids),
        cpu: MessageField::some(cpu),
        memory: MessageField::some(memory_v2(&stats.memory)),
        io: MessageField::some(io_v2(&stats.blkio)),
        hugetlb: hugetlb.collect(),
        memory_events: MessageField::some(memory_events(events)),
        ..Default::default()
    }
}

fn memory_v2(memory: &stats::Memory) -> v2::MemoryStat {
    // runc's events count memory and swap together.
    let swap = |both: u64, memory: u64| if both == u64::MAX { both } else { both.saturating_sub(memory) };
    let mut stat = v2::MemoryStat {
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        max_usage: memory.usage.max,
        swap_usage: swap(memory.swap.usage, memory.usage.usage),
        swap_limit: swap(memory.swap.limit, memory.usage.limit),
        psi: pressure(memory.psi.as_ref()),
        ..Default::default()
    };
    from_words!(stat, memory.raw;
        anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback, anon_thp,
        inactive_anon, active_anon, inactive_file, active_file, unevictable, slab_reclaimable,
        slab_unreclaimable, pgfault, pgmajfault, workingset_refault = "workingset_refault_file",
        workingset_activate = "workingset_activate_file", workingset_nodereclaim, pgrefill, pgscan, pgsteal,
        pgactivate, pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc,
    );
    stat
}

fn memory_events(text: &str) -> v2::MemoryEvents {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let words: BTreeMap<_, u64> = pairs.filter_map(|(name, n)| Some((name, n.parse().ok()?))).collect();
    let mut events = v2::MemoryEvents::new();
    from_words!(events, words; low, high, max, oom, oom_kill, oom_group_kill);
    events
}

/// One entry a device, where runc's events have one a device and direction.
fn io_v2(blkio: &Blkio) -> v2::IOStat {
    let mut devices: BTreeMap<(u64, u64), v2::IOEntry> = BTreeMap::new();
    for (list, is_bytes) in [(&blkio.io_service_bytes_recursive, true), (&blkio.io_serviced_recursive, false)]
    {
        for entry in list {
            let device = devices.entry((entry.major, entry.minor)).or_default();
            (device.major, device.minor) = (entry.major, entry.minor);
            match (entry.op.as_str(), is_bytes) {
                ("Read", true) => device.rbytes = entry.value,
                ("Write", true) => device.wbytes = entry.value,
                ("Read", false) => device.rios = entry.value,
                ("Write", false) => device.wios = entry.value,
                _ => {}
            }
        }
    }
    let psi = pressure(blkio.psi.as_ref());
    v2::IOStat { usage: devices.into_values().collect(), psi, ..Default::default() }
}

fn pressure(psi: Option<&Psi>) -> MessageField<v2::PSIStats> {
    let data = |pressure: &stats::Pressure| {
        MessageField::some(v2::PSIData {
            avg10: pressure.avg10,
            avg60: pressure.avg60,
            avg300: pressure.avg300,
            total: pressure.total,
            ..Default::default()
        })
    };
    let stats =
        psi.map(|psi| v2::PSIStats { some: data(&psi.some), full: data(&psi.full), ..Default::default() });
    stats.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::protobuf::Message;

    #[test]
    fn v1_and_v2_have_types_of_their_own() {
        let dir = std::env::temp_dir().join(format!("ampoule-shim-stats-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("memory.stat"), "cache 4096\ntotal_pgfault 7\nfile 4096\nanon 12\n").unwrap();
        fs::write(dir.join("memory.usage_in_bytes"), "8192\n").unwrap();
        let v1 = read(std::slice::from_ref(&dir)).unwrap();
        assert_eq!(v1.type_url, "io.containerd.cgroups.v1.Metrics");
        let memory = v1::Metrics::parse_from_bytes(&v1.value).unwrap().memory.unwrap();
        assert_eq!((memory.cache, memory.total_pg_fault, memory.usage.usage), (4096, 7, 8192));

        for (file, text) in [
            ("cgroup.controllers", "memory\n"),
            ("memory.current", "8192\n"),
            ("memory.max", "max\n"),
            ("memory.swap.current", "100\n"),
            ("memory.events", "oom 1\noom_kill 3\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
        ] {
            fs::write(dir.join(file), text).unwrap();
        }
        let v2 = read(std::slice::from_ref(&dir)).unwrap();
        assert_eq!(v2.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&v2.value).unwrap();
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.anon, memory.usage, memory.usage_limit), (12, 8192, u64::MAX));
        assert_eq!((memory.swap_usage, metrics.memory_events.oom_kill), (100, 3));
        let io = &metrics.io.usage[0];
        assert_eq!((io.major, io.rbytes, io.wbytes, io.rios, io.wios), (8, 1, 2, 3, 4));
        fs::remove_dir_all(&dir).unwrap();
    }
}
