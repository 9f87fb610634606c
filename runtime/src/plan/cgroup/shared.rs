//! What the two versions say in the same words, or in the same way with other words.

use anyhow::{Result, bail};

use super::Sheet;
use crate::plan::step::IfMissing;
use crate::spec::{Memory, Resources};

/// The same in both versions. 0 reads as 1, as in runc: systemd knows no 0, and no fork succeeds under either.
pub(super) fn pids(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    match resources.pids.limit {
        None => {}
        Some(n) if n < 0 => to.write("pids.limit", "pids.max", "max"),
        Some(n) => to.write("pids.limit", "pids.max", n.max(1)),
    }
    Ok(())
}

/// The same in both versions.
pub(super) fn rdma(resources: &Resources<'_>, to: &mut Sheet) -> Result<()> {
    for (device, limit) in &resources.rdma.0 {
        let mut line = device.to_string();
        for (name, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            bail!("linux.resources.rdma[\"{device}\"]: needs hcaHandles or hcaObjects");
        }
        to.write(&format!("rdma[\"{device}\"]"), "rdma.max", line);
    }
    Ok(())
}

/// What `memory.limit` and `memory.swap` say: -1 is no limit, and 0 reads as absent, as in runc.
pub(super) struct MemoryLimits {
    pub(super) limit: Option<i64>,
    /// Of memory and swap together.
    pub(super) total: Option<i64>,
    pub(super) reservation: Option<i64>,
}

pub(super) fn memory_limits(memory: &Memory<'_>, to: &mut Sheet) -> Result<MemoryLimits> {
    let bytes = |name: &str, value: Option<i64>| match value {
        Some(n) if n < -1 => bail!("linux.resources.memory.{name}: {n} is neither -1 nor a number of bytes"),
        other => Ok(other.filter(|n| *n != 0)),
    };
    let (limit, total) = (bytes("limit", memory.limit)?, bytes("swap", memory.swap)?);
    if let Some(total) = total.filter(|t| *t > 0) {
        match limit {
            None => bail!("linux.resources.memory.swap: can't be set without linux.resources.memory.limit"),
            Some(limit) if total < limit => bail!(
                "linux.resources.memory.swap: {total} is memory and swap together, so it can't be below \
                 linux.resources.memory.limit, {limit}"
            ),
            Some(_) => {}
        }
    }
    // Linux 5.16 dropped it; runc warns, too.
    if memory.kernel.is_some() {
        to.warnings.push("linux.resources.memory.kernel: ignored, kernel memory counts as memory".to_owned());
    }
    // `checkBeforeUpdate` compares with what is in use, and a new cgroup uses nothing.
    Ok(MemoryLimits { limit, total, reservation: bytes("reservation", memory.reservation)? })
}

/// `linux.resources.blockIO` in a version's own words.
pub(super) struct BlockIoFiles {
    /// The file, and another for a host without it.
    pub(super) weight: (&'static str, &'static str),
    /// The same for the weight of one device.
    pub(super) device_weight: (&'static str, &'static str),
    /// From `10..=1000` to the other file's scale.
    pub(super) scale: fn(u16) -> u64,
    /// Read and write bytes, read and write operations: a file, and what stands before the rate.
    pub(super) throttle: [(&'static str, &'static str); 4],
    pub(super) no_limit: &'static str,
}

/// Weights and throttles; leaf weights are v1's alone.
pub(super) fn block_io(resources: &Resources<'_>, to: &mut Sheet, files: &BlockIoFiles) -> Result<()> {
    let io = &resources.block_io;
    let mut set = |property: &str, device: &str, weight: Option<u16>| {
        let Some(weight) = weight.filter(|w| *w != 0) else { return Ok(()) };
        if !(10..=1000).contains(&weight) {
            bail!("linux.resources.blockIO.{property}: {weight} is not from 10 to 1000");
        }
        let (file, other) = if device.is_empty() { files.weight } else { files.device_weight };
        let values = vec![format!("{device}{}", (files.scale)(weight))];
        let instead = IfMissing::Instead { file: other.to_owned(), values };
        to.write_or(&format!("blockIO.{property}"), file, vec![format!("{device}{weight}")], instead);
        Ok(())
    };
    set("weight", "", io.weight)?;
    for (i, device) in io.weight_device.iter().enumerate() {
        set(
            &format!("weightDevice[{i}].weight"),
            &format!("{}:{} ", device.major, device.minor),
            device.weight,
        )?;
    }
    let throttles = [
        ("throttleReadBpsDevice", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &io.throttle_write_iops_device),
    ];
    for ((name, devices), (file, key)) in throttles.into_iter().zip(files.throttle) {
        let rate = |r: u64| if r == 0 { files.no_limit.to_owned() } else { r.to_string() };
        let values =
            devices.iter().map(|d| format!("{}:{} {key}{}", d.major, d.minor, rate(d.rate))).collect();
        to.write_or(&format!("blockIO.{name}"), file, values, IfMissing::Fail);
    }
    Ok(())
}

/// Page sizes become part of file names.
fn page_size(i: usize, size: &str) -> Result<&str> {
    if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
        bail!("linux.resources.hugepageLimits[{i}].pageSize: {size:?} is no page size such as 2MB");
    }
    Ok(size)
}

/// A limit of pages in use and the same of pages reserved, which kernels before 5.7 don't have.
pub(super) fn hugepages(resources: &Resources<'_>, to: &mut Sheet, file: &str) -> Result<()> {
    for (i, limit) in resources.hugepage_limits.iter().enumerate() {
        let size = page_size(i, &limit.page_size)?;
        for (kind, missing) in [("", IfMissing::Fail), ("rsvd.", IfMissing::Skip)] {
            let name = format!("hugetlb.{size}.{kind}{file}");
            to.write_or(&format!("hugepageLimits[{i}]"), &name, vec![limit.limit.to_string()], missing);
        }
    }
    Ok(())
}
