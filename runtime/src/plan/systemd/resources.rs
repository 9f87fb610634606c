//! The limits of a plan in systemd's words (systemd.resource-control(5)).
//!
//! They are read off the writes that go to the kernel, so config.json is translated in one place only and `unified`
//! needs no list of its own. What systemd has no word for, it leaves alone.

use dbus::gvariant::Value;

use super::Property;
use crate::plan::step::{HostStep, IfMissing};

/// The properties that say the same as these steps.
pub(super) fn properties(limits: &[HostStep]) -> Vec<Property> {
    let mut found: Vec<Property> = Vec::new();
    for step in limits {
        let HostStep::WriteCgroup { file, values, missing, .. } = step else { continue };
        // BFQ's weight has another scale; systemd wants the one of the file that stands in for it.
        let (file, values) = match missing {
            IfMissing::Instead { file, values } => (file, values),
            _ => (file, values),
        };
        for value in values {
            for (name, value) in of_write(file, value.trim()) {
                // As in the kernel, the last word counts; but for an idle group, which has no weight (systemd 252).
                found.retain(|p| p.name != name);
                found.push(Property::dispensable(name, value));
            }
        }
    }
    found
}

/// Nothing for what can't be read: the kernel will say what is wrong with it.
fn of_write(file: &str, value: &str) -> Vec<(&'static str, Value)> {
    let one = |name, value: Option<Value>| value.map(|value| (name, value)).into_iter().collect();
    match file {
        "memory.max" => one("MemoryMax", amount(value)),
        "memory.high" => one("MemoryHigh", amount(value)),
        "memory.low" => one("MemoryLow", amount(value)),
        "memory.min" => one("MemoryMin", amount(value)),
        "memory.swap.max" => one("MemorySwapMax", amount(value)),
        "memory.zswap.max" => one("MemoryZSwapMax", amount(value)),
        "pids.max" => one("TasksMax", amount(value)),
        "cpu.weight" => one("CPUWeight", weight(value)),
        "io.weight" => one("IOWeight", weight(value.strip_prefix("default ").unwrap_or(value))),
        "cpu.idle" if value == "1" => vec![("CPUWeight", Value::Uint64(0))],
        "cpu.max" => quota(value),
        "cpuset.cpus" => one("AllowedCPUs", mask(value)),
        "cpuset.mems" => one("AllowedMemoryNodes", mask(value)),
        // What systemd would otherwise set by its own default for scopes (systemd 253).
        "memory.oom.group" if value == "1" => vec![("OOMPolicy", Value::Text("kill".to_owned()))],
        "memory.oom.group" if value == "0" => vec![("OOMPolicy", Value::Text("continue".to_owned()))],
        _ => Vec::new(),
    }
}

/// Both say "no limit" with all bits.
fn amount(value: &str) -> Option<Value> {
    match value {
        "max" => Some(Value::Uint64(u64::MAX)),
        // The kernel reads `64M`, too.
        number => {
            let digits = number.trim_end_matches(['K', 'k', 'M', 'm', 'G', 'g', 'T', 't']);
            let shift = match &number[digits.len()..] {
                "" => 0,
                "K" | "k" => 10,
                "M" | "m" => 20,
                "G" | "g" => 30,
                "T" | "t" => 40,
                _ => return None,
            };
            digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Value::Uint64)
        }
    }
}

fn weight(value: &str) -> Option<Value> {
    value.parse().ok().filter(|w| (1..=10_000).contains(w)).map(Value::Uint64)
}

/// `QUOTA PERIOD` in microseconds, as microseconds a second. systemd keeps whole percents, and cuts the rest off when
/// it is reloaded (runc and we therefore round up; the kernel gets the exact value).
fn quota(value: &str) -> Vec<(&'static str, Value)> {
    let mut words = value.split_whitespace();
    let (Some(quota), period) = (words.next(), words.next().map_or(Ok(100_000), str::parse::<u64>)) else {
        return Vec::new();
    };
    let Some(period) = period.ok().filter(|p| *p > 0) else { return Vec::new() };
    let a_second = match quota {
        "max" => u64::MAX,
        quota => match quota.parse::<u64>().ok().and_then(|q| q.checked_mul(1_000_000)) {
            Some(scaled) => (scaled / period).div_ceil(10_000) * 10_000,
            None => return Vec::new(),
        },
    };
    vec![("CPUQuotaPeriodUSec", Value::Uint64(period)), ("CPUQuotaPerSecUSec", Value::Uint64(a_second))]
}

/// More CPUs or nodes than any kernel is built for (CONFIG_NR_CPUS).
const MAX_BIT: usize = 8192;

/// `0-3,8` as bits, lowest first in the lowest byte.
fn mask(list: &str) -> Option<Value> {
    let mut bytes: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= MAX_BIT {
            return None;
        }
        bytes.resize(bytes.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    let bytes: Vec<Value> = bytes.into_iter().map(Value::Byte).collect();
    (!bytes.is_empty()).then(|| Value::Array("y".to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(writes: &[(&str, &str)]) -> Vec<String> {
        let step = |(file, value): &(&str, &str)| HostStep::WriteCgroup {
            dir: "/g".into(),
            file: (*file).to_owned(),
            values: vec![(*value).to_owned()],
            property: String::new(),
            missing: IfMissing::Fail,
        };
        let steps: Vec<HostStep> = writes.iter().map(step).collect();
        let found = properties(&steps);
        assert!(found.iter().all(|p| p.dispensable), "the kernel is told, too");
        found.iter().map(|p| format!("{}={}", p.name, p.value)).collect()
    }

    #[test]
    fn amounts_and_their_absence() {
        let writes = [("memory.max", "67108864"), ("memory.swap.max", "max"), ("pids.max", "5")];
        assert_eq!(said(&writes), ["MemoryMax=67108864", "MemorySwapMax=18446744073709551615", "TasksMax=5"]);
        assert_eq!(said(&[("memory.high", "64M")]), ["MemoryHigh=67108864"]);
        assert_eq!(said(&[("memory.high", "64MM"), ("memory.low", "x"), ("pids.max", "-1")]), [""; 0]);
        assert_eq!(said(&[("memory.max", "18446744073709551615G")]), [""; 0]);
    }

    #[test]
    fn quotas_are_a_second_s_worth_rounded_up_to_a_percent() {
        assert_eq!(
            said(&[("cpu.max", "50000 100000")]),
            ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=500000"]
        );
        assert_eq!(
            said(&[("cpu.max", "1001 100000")]),
            ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=20000"]
        );
        assert_eq!(
            said(&[("cpu.max", "max 5000")]),
            ["CPUQuotaPeriodUSec=5000", "CPUQuotaPerSecUSec=18446744073709551615"]
        );
        assert_eq!(
            said(&[("cpu.max", "200000")]),
            ["CPUQuotaPeriodUSec=100000", "CPUQuotaPerSecUSec=2000000"]
        );
        assert_eq!(
            said(&[
                ("cpu.max", ""),
                ("cpu.max", "5 0"),
                ("cpu.max", "x"),
                ("cpu.max", "18446744073709551615 1")
            ]),
            [""; 0]
        );
    }

    #[test]
    fn lists_become_bits() {
        assert_eq!(said(&[("cpuset.cpus", "0-3,8")]), ["AllowedCPUs=[15, 1]"]);
        assert_eq!(said(&[("cpuset.mems", "1")]), ["AllowedMemoryNodes=[2]"]);
        for bad in ["", "x", "3-1", "0-99999999", "0-10:2/4", "8192"] {
            assert_eq!(said(&[("cpuset.cpus", bad)]), [""; 0], "{bad}");
        }
    }

    #[test]
    fn the_last_word_counts_and_an_idle_group_has_no_weight() {
        assert_eq!(said(&[("pids.max", "5"), ("pids.max", "7")]), ["TasksMax=7"]);
        assert_eq!(said(&[("cpu.weight", "59"), ("cpu.idle", "1")]), ["CPUWeight=0"]);
        assert_eq!(said(&[("cpu.weight", "59"), ("cpu.idle", "0")]), ["CPUWeight=59"]);
        assert_eq!(said(&[("cpu.weight", "10001"), ("cpu.weight", "0")]), [""; 0]);
    }

    #[test]
    fn what_systemd_does_not_know_it_is_not_told() {
        assert_eq!(said(&[("hugetlb.2MB.max", "0"), ("cpu.max.burst", "1"), ("rdma.max", "x y=1")]), [""; 0]);
        assert_eq!(said(&[("memory.oom.group", "1")]), ["OOMPolicy='kill'"]);
    }

    #[test]
    fn a_weight_is_taken_from_the_file_of_systemds_scale() {
        let step = HostStep::WriteCgroup {
            dir: "/g".into(),
            file: "io.bfq.weight".into(),
            values: vec!["500".into()],
            property: String::new(),
            missing: IfMissing::Instead { file: "io.weight".into(), values: vec!["4950".into()] },
        };
        assert_eq!(properties(&[step])[0].value, Value::Uint64(4950));
        // One device's weight is none of the whole.
        assert_eq!(said(&[("io.weight", "8:0 50"), ("io.weight", "default 70")]), ["IOWeight=70"]);
    }
}
