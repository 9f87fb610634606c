//! v1's files (Documentation/admin-guide/cgroup-v1/). Each directory has those of its own controllers.

use super::{Amount, Blkio, BlkioEntry, Files, HugeTlb, Stats, number, pairs, pids, word};

/// Of times in cpuacct.stat: USER_HZ is 100 on every machine.
const NS_PER_TICK: u64 = 1_000_000_000 / 100;

pub(super) fn read(files: Files<'_>, page_sizes: &[String], stats: &mut Stats) {
    if let Some(total) = files("cpuacct.usage") {
        cpu(total, files, stats);
    }
    if files("cpu.shares").is_some() {
        throttling(&files("cpu.stat").unwrap_or_default(), stats);
    }
    if let Some(cpus) = files("cpuset.cpus") {
        cpuset(&cpus, files, stats);
    }
    if let Some(text) = files("memory.stat") {
        memory(&text, files, stats);
    }
    if let Some(current) = files("pids.current") {
        stats.pids = pids(current, files);
    }
    blkio(files, &mut stats.blkio);
    for size in page_sizes {
        let file = |kind: &str, name: &str| files(&format!("hugetlb.{size}{kind}.{name}"));
        // Reserved pages count from the mapping on (Linux 5.7).
        let Some(kind) = [".rsvd", ""].into_iter().find(|kind| file(kind, "failcnt").is_some()) else {
            continue;
        };
        let value = |name| number(file(kind, name));
        let (usage, max) = (value("usage_in_bytes"), value("max_usage_in_bytes"));
        stats.hugetlb.insert(size.clone(), HugeTlb { usage, max, failcnt: value("failcnt") });
    }
}

fn cpu(total: String, files: Files<'_>, stats: &mut Stats) {
    let usage = &mut stats.cpu.usage;
    usage.total = number(Some(total));
    for (name, ticks) in pairs(&files("cpuacct.stat").unwrap_or_default()) {
        match name {
            "user" => usage.user = ticks.saturating_mul(NS_PER_TICK),
            "system" => usage.kernel = ticks.saturating_mul(NS_PER_TICK),
            _ => {}
        }
    }
    let percpu = files("cpuacct.usage_percpu").unwrap_or_default();
    usage.percpu = percpu.split_whitespace().map(word).collect();
    // Below a line of titles: `CPU USER SYSTEM`.
    for line in files("cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
        let mut words = line.split_whitespace().skip(1).map(word);
        usage.percpu_user.push(words.next().unwrap_or(0));
        usage.percpu_kernel.push(words.next().unwrap_or(0));
    }
}

fn throttling(text: &str, stats: &mut Stats) {
    let throttling = &mut stats.cpu.throttling;
    for (name, value) in pairs(text) {
        match name {
            "nr_periods" => throttling.periods = value,
            "nr_throttled" => throttling.throttled_periods = value,
            "throttled_time" => throttling.throttled_time = value,
            _ => {}
        }
    }
}

fn cpuset(cpus: &str, files: Files<'_>, stats: &mut Stats) {
    let set = &mut stats.cpuset;
    let flag = |name: &str| number(files(&format!("cpuset.{name}")));
    set.cpus = list(cpus);
    set.mems = list(&files("cpuset.mems").unwrap_or_default());
    set.cpu_exclusive = flag("cpu_exclusive");
    set.mem_hardwall = flag("mem_hardwall");
    set.mem_exclusive = flag("mem_exclusive");
    set.memory_migrate = flag("memory_migrate");
    set.memory_spread_page = flag("memory_spread_page");
    set.memory_spread_slab = flag("memory_spread_slab");
    set.memory_pressure = flag("memory_pressure");
    set.sched_load_balance = flag("sched_load_balance");
    let level = files("cpuset.sched_relax_domain_level");
    set.sched_relax_domain_level = level.and_then(|l| l.trim_end().parse().ok()).unwrap_or(0);
}

/// `0-2,7`
fn list(text: &str) -> Vec<u16> {
    let ranges = text.trim_end().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

fn memory(text: &str, files: Files<'_>, stats: &mut Stats) {
    let memory = &mut stats.memory;
    memory.raw = pairs(text).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    let amount = |kind: &str| {
        let value = |name| number(files(&format!("{kind}.{name}")));
        Amount {
            limit: value("limit_in_bytes"),
            usage: value("usage_in_bytes"),
            max: value("max_usage_in_bytes"),
            failcnt: value("failcnt"),
        }
    };
    memory.usage = amount("memory");
    memory.swap = amount("memory.memsw");
    memory.kernel = amount("memory.kmem");
    memory.kernel_tcp = amount("memory.kmem.tcp");
}

type Field = (&'static str, fn(&mut Blkio) -> &mut Vec<BlkioEntry>);

/// What every scheduler counts, and what only some do: BFQ with debugging, CFQ before Linux 5.0.
const FIELDS: [Field; 8] = [
    ("io_serviced", |b| &mut b.io_serviced_recursive),
    ("io_service_bytes", |b| &mut b.io_service_bytes_recursive),
    ("sectors", |b| &mut b.sectors_recursive),
    ("io_service_time", |b| &mut b.io_service_time_recursive),
    ("io_wait_time", |b| &mut b.io_wait_time_recursive),
    ("io_merged", |b| &mut b.io_merged_recursive),
    ("io_queued", |b| &mut b.io_queued_recursive),
    ("time", |b| &mut b.io_time_recursive),
];

/// The first of these families that has counted anything is the one that the disks' schedulers feed.
const FAMILIES: [(&str, &str); 4] =
    [("bfq.", "_recursive"), ("", "_recursive"), ("throttle.", "_recursive"), ("throttle.", "")];

fn blkio(files: Files<'_>, blkio: &mut Blkio) {
    for (prefix, suffix) in FAMILIES {
        for (name, field) in FIELDS {
            let text = files(&format!("blkio.{prefix}{name}{suffix}")).unwrap_or_default();
            let found = entries(&text);
            if found.is_empty() && name == FIELDS[0].0 {
                break;
            }
            *field(blkio) = found;
        }
        if !blkio.io_serviced_recursive.is_empty() {
            return;
        }
    }
}

/// `8:0 Read 4096` or `8:0 4096`, and a sum of all at the end.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.split_once(' ').unwrap_or(("", rest));
        Some(BlkioEntry { major: word(major), minor: word(minor), op: op.to_owned(), value: word(value) })
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a container of Linux 6.1 with a memory limit had.
    fn recorded(file: &str) -> Option<String> {
        let text = match file {
            "cpuacct.usage" => "1234567890\n",
            "cpuacct.stat" => "user 100\nsystem 23\n",
            "cpuacct.usage_percpu" => "1000000000 234567890 \n",
            "cpuacct.usage_all" => "cpu user system\n0 800000000 200000000\n1 200000000 34567890\n",
            "cpu.shares" => "1024\n",
            "cpu.stat" => "nr_periods 10\nnr_throttled 4\nthrottled_time 98765\nwait_sum 3\n",
            "cpuset.cpus" => "0-2,7\n",
            "cpuset.mems" => "0\n",
            "cpuset.sched_load_balance" => "1\n",
            "cpuset.sched_relax_domain_level" => "-1\n",
            "memory.stat" => "cache 8192\nrss 4096\ntotal_cache 8192\n",
            "memory.usage_in_bytes" => "17448960\n",
            "memory.max_usage_in_bytes" => "20000768\n",
            "memory.limit_in_bytes" => "33554432\n",
            "memory.failcnt" => "12\n",
            "memory.kmem.limit_in_bytes" => "9223372036854771712\n",
            "pids.current" => "3\n",
            "pids.max" => "50\n",
            "blkio.bfq.io_serviced_recursive" => "Total 0\n",
            "blkio.throttle.io_serviced_recursive" => "8:0 Read 3\n8:0 Write 1\n8:0 Total 4\nTotal 4\n",
            "blkio.throttle.io_service_bytes_recursive" => "8:0 Read 12288\n8:0 Total 12288\nTotal 12288\n",
            "hugetlb.2MB.usage_in_bytes" => "2097152\n",
            "hugetlb.2MB.max_usage_in_bytes" => "4194304\n",
            "hugetlb.2MB.failcnt" => "1\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn every_controller_tells_its_part() {
        let mut stats = Stats::default();
        read(&recorded, &["2MB".into()], &mut stats);
        let usage = &stats.cpu.usage;
        assert_eq!((usage.total, usage.user, usage.kernel), (1_234_567_890, 1_000_000_000, 230_000_000));
        assert_eq!(usage.percpu, [1_000_000_000, 234_567_890]);
        assert_eq!(usage.percpu_user, [800_000_000, 200_000_000]);
        assert_eq!(usage.percpu_kernel, [200_000_000, 34_567_890]);
        let throttling = &stats.cpu.throttling;
        assert_eq!((throttling.periods, throttling.throttled_periods), (10, 4));
        assert_eq!(throttling.throttled_time, 98_765);
        assert_eq!((&stats.cpuset.cpus[..], &stats.cpuset.mems[..]), (&[0, 1, 2, 7][..], &[0][..]));
        assert_eq!((stats.cpuset.sched_load_balance, stats.cpuset.sched_relax_domain_level), (1, -1));
        let expected = Amount { limit: 33_554_432, usage: 17_448_960, max: 20_000_768, failcnt: 12 };
        assert_eq!((&stats.memory.usage, stats.memory.cache), (&expected, 8192));
        assert_eq!(stats.memory.kernel.limit, 9_223_372_036_854_771_712);
        assert_eq!(stats.memory.swap, Amount::default());
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 50));
        let serviced: Vec<_> =
            stats.blkio.io_serviced_recursive.iter().map(|e| (e.major, &*e.op, e.value)).collect();
        assert_eq!(serviced, [(8, "Read", 3), (8, "Write", 1), (8, "Total", 4)]);
        assert_eq!(stats.blkio.io_service_bytes_recursive[0].value, 12_288);
        assert_eq!(stats.hugetlb["2MB"], HugeTlb { usage: 2_097_152, max: 4_194_304, failcnt: 1 });
    }

    #[test]
    fn lines_that_make_no_sense_are_left_out() {
        assert_eq!(list("\n"), [0; 0]);
        assert_eq!(list("x,3-1,5"), [5]);
        assert_eq!(entries("Total 4\nx\n8:0\n"), []);
        assert_eq!(entries("8:16 6792\n").len(), 1);
    }
}
