//! The words of cgroup v1 (kernel: Documentation/admin-guide/cgroup-v1).

use anyhow::{Result, bail};

use super::Sheet;
use super::shared::{self, BlockIoFiles, MemoryLimits, memory_limits};
use crate::plan::step::{HostStep, IfMissing};
use crate::spec::Resources;

/// An empty cpuset takes no process, so what is not given comes from above. The leaf is filled last: copying a
/// parent's whole set into it first could collide with an exclusive sibling.
pub(super) fn cpuset(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let (cpus, mems) = (&*resources.cpu.cpus, &*resources.cpu.mems);
    if let Some(parent) = to.dir.parent().filter(|_| !cpus.is_empty() || !mems.is_empty()) {
        to.steps.push(HostStep::InheritCpuset { dir: parent.to_owned() });
    }
    for (property, file, value) in [("cpu.cpus", "cpuset.cpus", cpus), ("cpu.mems", "cpuset.mems", mems)] {
        if !value.is_empty() {
            to.write(property, file, value);
        }
    }
    if cpus.is_empty() || mems.is_empty() {
        to.steps.push(HostStep::InheritCpuset { dir: to.dir.clone() });
    }
    Ok(())
}

pub(super) fn memory(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let memory = &resources.memory;
    let MemoryLimits { limit, total, reservation } = memory_limits(memory, to)?;
    let total_write = |to: &mut Sheet, total: i64, missing| {
        to.write_or("memory.swap", "memory.memsw.limit_in_bytes", vec![total.to_string()], missing);
    };
    // Since Linux 5.11 it is always so, and the kernel refuses the contrary.
    if let Some(wanted) = memory.use_hierarchy {
        let missing = if wanted { IfMissing::Skip } else { IfMissing::Fail };
        let value = u8::from(wanted).to_string();
        to.write_or("memory.useHierarchy", "memory.use_hierarchy", vec![value], missing);
    }
    // The kernel keeps limit <= memory+swap at every moment: lift the latter first, lower it last. Where swap is not
    // accounted for it has no limit anyway. Unlimited memory takes the other along, as in runc.
    let unlimited = total == Some(-1) || (limit == Some(-1) && total.is_none());
    if unlimited {
        total_write(to, -1, IfMissing::Skip);
    }
    if let Some(limit) = limit {
        to.write("memory.limit", "memory.limit_in_bytes", limit);
    }
    if let Some(total) = total.filter(|_| !unlimited) {
        total_write(to, total, IfMissing::Fail);
    }
    if let Some(reservation) = reservation {
        to.write("memory.reservation", "memory.soft_limit_in_bytes", reservation);
    }
    if let Some(limit) = memory.kernel_tcp {
        to.write("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", limit);
    }
    if memory.disable_oom_killer {
        to.write("memory.disableOOMKiller", "memory.oom_control", 1);
    }
    match memory.swappiness {
        None | Some(-1) => {}
        Some(n @ 0..=100) => to.write("memory.swappiness", "memory.swappiness", n),
        Some(n) => bail!("linux.resources.memory.swappiness: {n} is not from 0 to 100"),
    }
    Ok(())
}

pub(super) fn cpu(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let cpu = &resources.cpu;
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        // The kernel would take the nearest bound without a word.
        if !(2..=262_144).contains(&shares) {
            bail!("linux.resources.cpu.shares: {shares} is not from 2 to 262144");
        }
        to.write("cpu.shares", "cpu.shares", shares);
    }
    // A new group has no quota, so any period fits; then the quota; a burst may not exceed the quota.
    if let Some(period) = cpu.period.filter(|p| *p != 0) {
        to.write("cpu.period", "cpu.cfs_period_us", period);
    }
    if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
        to.write("cpu.quota", "cpu.cfs_quota_us", quota.max(-1));
    }
    if let Some(burst) = cpu.burst {
        to.write("cpu.burst", "cpu.cfs_burst_us", burst);
    }
    if let Some(period) = cpu.realtime_period.filter(|p| *p != 0) {
        to.write("cpu.realtimePeriod", "cpu.rt_period_us", period);
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|r| *r != 0) {
        to.write("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime);
    }
    // Last: an idle group refuses shares.
    if let Some(idle) = cpu.idle {
        to.write("cpu.idle", "cpu.idle", idle);
    }
    Ok(())
}

/// Kernels since 5.0 have weights only with the BFQ scheduler, under its name and on the same scale.
pub(super) fn block_io(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let files = BlockIoFiles {
        weight: ("blkio.weight", "blkio.bfq.weight"),
        device_weight: ("blkio.weight_device", "blkio.bfq.weight_device"),
        scale: u64::from,
        throttle: [
            ("blkio.throttle.read_bps_device", ""),
            ("blkio.throttle.write_bps_device", ""),
            ("blkio.throttle.read_iops_device", ""),
            ("blkio.throttle.write_iops_device", ""),
        ],
        no_limit: "0",
    };
    shared::block_io(resources, to, &files)?;
    if let Some(weight) = resources.block_io.leaf_weight.filter(|w| *w != 0) {
        to.write("blockIO.leafWeight", "blkio.leaf_weight", weight);
    }
    for (i, device) in resources.block_io.weight_device.iter().enumerate() {
        if let Some(weight) = device.leaf_weight.filter(|w| *w != 0) {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            to.write(&format!("blockIO.weightDevice[{i}].leafWeight"), "blkio.leaf_weight_device", line);
        }
    }
    Ok(())
}

pub(super) fn hugepages(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    shared::hugepages(resources, to, "limit_in_bytes")
}

pub(super) fn class_id(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    if let Some(id) = resources.network.class_id.filter(|id| *id != 0) {
        to.write("network.classID", "net_cls.classid", id);
    }
    Ok(())
}

pub(super) fn priorities(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    let lines = resources.network.priorities.iter().map(|p| format!("{} {}", p.name, p.priority)).collect();
    to.write_or("network.priorities", "net_prio.ifpriomap", lines, IfMissing::Fail);
    Ok(())
}
