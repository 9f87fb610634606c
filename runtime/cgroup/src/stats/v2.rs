//! v2's files (cgroup-v2.rst), converted to what v1 would tell, as readers of runc's events expect.

use super::{Amount, BlkioEntry, Files, HugeTlb, Pressure, Psi, Stats, number, pairs, pids, word};

pub(super) fn read(files: Files<'_>, page_sizes: &[String], stats: &mut Stats) {
    if let Some(text) = files("cpu.stat") {
        cpu(&text, stats);
    }
    stats.cpu.psi = files("cpu.pressure").map(|text| psi(&text));
    if let Some(text) = files("memory.stat") {
        memory(&text, files, stats);
    }
    stats.memory.psi = files("memory.pressure").map(|text| psi(&text));
    if let Some(text) = files("io.stat") {
        io(&text, stats);
    }
    stats.blkio.psi = files("io.pressure").map(|text| psi(&text));
    match files("pids.current") {
        Some(current) => stats.pids = pids(current, files),
        None => {
            // A threaded group lists only threads.
            let list = files("cgroup.procs").or_else(|| files("cgroup.threads")).unwrap_or_default();
            stats.pids.current = list.lines().count() as u64;
        }
    }
    for size in page_sizes {
        let usage = files(&format!("hugetlb.{size}.rsvd.current"));
        let Some(usage) = usage.or_else(|| files(&format!("hugetlb.{size}.current"))) else { continue };
        let events = files(&format!("hugetlb.{size}.events")).unwrap_or_default();
        let failcnt = pairs(&events).iter().find(|(name, _)| *name == "max").map_or(0, |(_, n)| *n);
        stats.hugetlb.insert(size.clone(), HugeTlb { usage: number(Some(usage)), max: 0, failcnt });
    }
}

fn cpu(text: &str, stats: &mut Stats) {
    let (usage, throttling) = (&mut stats.cpu.usage, &mut stats.cpu.throttling);
    for (name, value) in pairs(text) {
        let ns = value.saturating_mul(1000);
        match name {
            "usage_usec" => usage.total = ns,
            "user_usec" => usage.user = ns,
            "system_usec" => usage.kernel = ns,
            "nr_periods" => throttling.periods = value,
            "nr_throttled" => throttling.throttled_periods = value,
            "throttled_usec" => throttling.throttled_time = ns,
            _ => {}
        }
    }
}

fn memory(text: &str, files: Files<'_>, stats: &mut Stats) {
    let memory = &mut stats.memory;
    memory.raw = pairs(text).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    // memory.peak: Linux 5.19.
    let amount = |kind: &str| Amount {
        limit: number(files(&format!("{kind}.max"))),
        usage: number(files(&format!("{kind}.current"))),
        max: number(files(&format!("{kind}.peak"))),
        failcnt: 0,
    };
    memory.usage = amount("memory");
    let swap = amount("memory.swap");
    memory.swap = Amount {
        limit: swap.limit.saturating_add(memory.usage.limit),
        usage: swap.usage.saturating_add(memory.usage.usage),
        // The two peaks need not have been at the same time.
        max: 0,
        failcnt: 0,
    };
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`
fn io(text: &str, stats: &mut Stats) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let (major, minor) = (word(major), word(minor));
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: word(value) });
        }
    }
}

/// `some avg10=0.00 avg60=1.50 avg300=0.07 total=123`
fn psi(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let pressure = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        *pressure = Pressure::default();
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            match key {
                "avg10" => pressure.avg10 = percent(value),
                "avg60" => pressure.avg60 = percent(value),
                "avg300" => pressure.avg300 = percent(value),
                "total" => pressure.total = word(value),
                _ => {}
            }
        }
    }
    psi
}

/// The kernel always writes two decimals (kernel/sched/psi.c: psi_show). std's own reader of fractions is 20 kB.
fn percent(text: &str) -> f64 {
    let (whole, hundredths) = text.split_once('.').unwrap_or((text, ""));
    word(whole).saturating_mul(100).saturating_add(word(hundredths)) as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a container of Linux 6.12 with a memory limit and a quota had.
    fn recorded(file: &str) -> Option<String> {
        let text = match file {
            "cpu.stat" => {
                "usage_usec 1500250\nuser_usec 1200200\nsystem_usec 300050\nnice_usec 0\nnr_periods 40\n\
                 nr_throttled 7\nthrottled_usec 81234\nnr_bursts 0\nburst_usec 0\n"
            }
            "cpu.pressure" => {
                "some avg10=1.53 avg60=0.87 avg300=0.20 total=812345\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n"
            }
            "memory.stat" => "anon 17039360\nfile 4096\nkernel 327680\npgfault 4711\n",
            "memory.current" => "17448960\n",
            "memory.max" => "67108864\n",
            "memory.peak" => "20000768\n",
            "memory.swap.current" => "8192\n",
            "memory.swap.max" => "33554432\n",
            "memory.swap.peak" => "16384\n",
            "io.stat" => {
                "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=0 wbytes=512 rios=0 wios=1\n"
            }
            "pids.current" => "3\n",
            "pids.max" => "max\n",
            "hugetlb.2MB.current" => "4194304\n",
            "hugetlb.2MB.events" => "max 5\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn values_are_in_v1s_units_and_names() {
        let mut stats = Stats::default();
        read(&recorded, &["2MB".into(), "1GB".into()], &mut stats);
        let usage = &stats.cpu.usage;
        assert_eq!((usage.total, usage.user, usage.kernel), (1_500_250_000, 1_200_200_000, 300_050_000));
        let throttling = &stats.cpu.throttling;
        assert_eq!((throttling.periods, throttling.throttled_periods), (40, 7));
        assert_eq!(throttling.throttled_time, 81_234_000);
        let psi = stats.cpu.psi.as_ref().unwrap();
        assert_eq!((psi.some.avg10, psi.some.total, psi.full.avg10, psi.full.total), (1.53, 812_345, 0.5, 7));
        assert_eq!(stats.memory.psi, None);
        assert_eq!((stats.memory.cache, stats.memory.raw["pgfault"]), (4096, 4711));
        let amount = |limit, usage, max| Amount { limit, usage, max, failcnt: 0 };
        assert_eq!(stats.memory.usage, amount(67_108_864, 17_448_960, 20_000_768));
        assert_eq!(stats.memory.swap, amount(67_108_864 + 33_554_432, 17_448_960 + 8192, 0));
        assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
        let bytes = serde_json::to_value(&stats.blkio.io_service_bytes_recursive).unwrap();
        let expected = serde_json::json!([
            {"major": 254, "op": "Read", "value": 4096}, {"major": 254, "op": "Write", "value": 8192},
            {"major": 8, "minor": 16, "op": "Read"}, {"major": 8, "minor": 16, "op": "Write", "value": 512},
        ]);
        assert_eq!(bytes, expected);
        assert_eq!(stats.blkio.io_serviced_recursive[1].value, 2);
        assert_eq!(stats.hugetlb.len(), 1);
        assert_eq!(stats.hugetlb["2MB"], HugeTlb { usage: 4_194_304, max: 0, failcnt: 5 });
    }

    #[test]
    fn no_limit_is_the_largest_number_and_stays_it() {
        let unlimited =
            |file: &str| if file.ends_with(".max") { Some("max\n".into()) } else { recorded(file) };
        let mut stats = Stats::default();
        read(&unlimited, &[], &mut stats);
        assert_eq!(stats.memory.usage.limit, u64::MAX);
        assert_eq!(stats.memory.swap.limit, u64::MAX);
    }

    #[test]
    fn without_the_controller_processes_are_counted_and_without_swap_memory_is_all() {
        let bare = |file: &str| match file {
            "cgroup.procs" => Some("12\n13\n".into()),
            file if file.starts_with("pids.") || file.starts_with("memory.swap") => None,
            file => recorded(file),
        };
        let mut stats = Stats::default();
        read(&bare, &[], &mut stats);
        assert_eq!(stats.pids.current, 2);
        assert_eq!((stats.memory.swap.usage, stats.memory.swap.limit), (17_448_960, 67_108_864));
    }
}
