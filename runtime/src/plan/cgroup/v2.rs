//! The words of cgroup v2 (kernel: Documentation/admin-guide/cgroup-v2.rst). config.json speaks v1, so some values
//! are converted; what v2 has no word for is refused.

use anyhow::{Result, bail};

use super::Sheet;
use super::shared::{self, BlockIoFiles, MemoryLimits, memory_limits};
use crate::plan::step::IfMissing;
use crate::spec::Resources;

pub(super) fn cpuset(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let cpu = &resources.cpu;
    for (property, file, value) in
        [("cpu.cpus", "cpuset.cpus", &cpu.cpus), ("cpu.mems", "cpuset.mems", &cpu.mems)]
    {
        if !value.is_empty() {
            to.write(property, file, value);
        }
    }
    Ok(())
}

pub(super) fn memory(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let memory = &resources.memory;
    let MemoryLimits { limit, total, reservation } = memory_limits(memory, to)?;
    if memory.kernel_tcp.is_some() {
        to.warnings.push("linux.resources.memory.kernelTCP: ignored, v2 counts it as memory".to_owned());
    }
    // config.json counts memory and swap together, v2 counts swap alone.
    let swap = match (limit, total) {
        (Some(-1), None) | (_, Some(-1)) => Some("max".to_owned()),
        (_, None) => None,
        (Some(-1), Some(total)) => Some(total.to_string()),
        (limit, Some(total)) => Some((total - limit.unwrap_or_default()).to_string()),
    };
    if let Some(swap) = swap {
        // Without swap accounting the file is not there, and neither is swap to be had or to be forbidden.
        let missing = if matches!(&*swap, "max" | "0") { IfMissing::Skip } else { IfMissing::Fail };
        to.write_or("memory.swap", "memory.swap.max", vec![swap], missing);
    }
    let max = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
    if let Some(limit) = limit {
        to.write("memory.limit", "memory.max", max(limit));
    }
    if let Some(reservation) = reservation {
        to.write("memory.reservation", "memory.low", max(reservation));
    }
    if memory.use_hierarchy == Some(false) {
        bail!("linux.resources.memory.useHierarchy: cgroup v2 always counts what is in the cgroups below");
    }
    if memory.disable_oom_killer {
        bail!("linux.resources.memory.disableOOMKiller: cgroup v2 can't disable the OOM killer");
    }
    if memory.swappiness.is_some_and(|n| n != -1) {
        bail!("linux.resources.memory.swappiness: cgroup v2 has no swappiness");
    }
    Ok(())
}

pub(super) fn cpu(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let cpu = &resources.cpu;
    for (name, given) in [
        ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|r| r != 0)),
        ("realtimePeriod", cpu.realtime_period.is_some_and(|p| p != 0)),
    ] {
        if given {
            bail!("linux.resources.cpu.{name}: cgroup v2 has no limits for realtime processes");
        }
    }
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        to.write("cpu.shares", "cpu.weight", weight_of_shares(shares));
    }
    let quota = cpu.quota.filter(|q| *q != 0);
    let period = cpu.period.filter(|p| *p != 0);
    if quota.is_some() || period.is_some() {
        let limit = quota.filter(|q| *q > 0).map_or("max".to_owned(), |q| q.to_string());
        let property = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        // 100 ms is the kernel's own default.
        to.write(property, "cpu.max", format!("{limit} {}", period.unwrap_or(100_000)));
    }
    if let Some(burst) = cpu.burst {
        to.write("cpu.burst", "cpu.max.burst", burst);
    }
    // Last: an idle group refuses weights.
    if let Some(idle) = cpu.idle {
        to.write("cpu.idle", "cpu.idle", idle);
    }
    Ok(())
}

/// v1's 2..262144 with the default 1024 onto v2's 1..10000 with the default 100: a parabola on logarithmic scales
/// through all three points, rounded up. Kubernetes and runc 1.4 use the same; a straight line would turn the default
/// into 39.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// BFQ keeps v1's scale of weights; `io.weight` runs from 1 to 10000.
pub(super) fn block_io(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let files = BlockIoFiles {
        weight: ("io.bfq.weight", "io.weight"),
        device_weight: ("io.bfq.weight", "io.weight"),
        scale: |weight| 1 + (u64::from(weight) - 10) * 9999 / 990,
        throttle: [("io.max", "rbps="), ("io.max", "wbps="), ("io.max", "riops="), ("io.max", "wiops=")],
        no_limit: "max",
    };
    shared::block_io(resources, to, &files)?;
    let io = &resources.block_io;
    if io.leaf_weight.is_some_and(|w| w != 0) {
        bail!("linux.resources.blockIO.leafWeight: cgroup v2 has no leaf weights");
    }
    if let Some(i) = io.weight_device.iter().position(|d| d.leaf_weight.is_some_and(|w| w != 0)) {
        bail!("linux.resources.blockIO.weightDevice[{i}].leafWeight: cgroup v2 has no leaf weights");
    }
    Ok(())
}

pub(super) fn hugepages(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    shared::hugepages(resources, to, "max")
}
