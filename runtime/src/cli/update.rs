//! `ampoule update`: new limits for a container that is there.

use std::borrow::Cow;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Context, units};
use crate::lifecycle;
use crate::plan::Changes;
use crate::spec::{self, Resources, Str};

/// More than any engine writes.
const MAX_RESOURCES: u64 = 1 << 20;

#[derive(clap::Args)]
pub(super) struct Update {
    /// Read the limits from this file (-: stdin), in the form of config.json's linux.resources; flags of cgroup limits are then ignored
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Block I/O weight, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// CFS period, in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CFS quota: CPU time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CFS burst: CPU time beyond the quota that was saved up before, in microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// CPU shares (relative weight), 2 to 262144
    #[arg(long, value_name = "N")]
    cpu_share: Option<u64>,
    /// Realtime period, in microseconds (cgroup v1)
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Realtime runtime in each period, in microseconds (cgroup v1)
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: SCHED_IDLE, run only when nothing else wants the CPU; 0: as usual
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// CPUs to use, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Accepted and ignored: kernels since Linux 5.16 have no such limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes)]
    kernel_memory: Option<i64>,
    /// Kernel memory limit for TCP buffers (cgroup v1)
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes)]
    kernel_memory_tcp: Option<i64>,
    /// Memory limit; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes)]
    memory: Option<i64>,
    /// Memory reservation, or soft limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes)]
    memory_reservation: Option<i64>,
    /// Total memory limit, memory and swap; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes)]
    memory_swap: Option<i64>,
    /// Limit of processes and threads; -1 for none
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Intel RDT: L3 cache schema, such as L3:0=ff
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Intel RDT: memory bandwidth schema, such as MB:0=50
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Container ID
    id: String,
}

pub(super) fn run(context: &Context, args: Update) -> Result<ExitCode> {
    update(context, &args).with_context(|| format!("update {}", args.id))?;
    Ok(ExitCode::SUCCESS)
}

fn update(context: &Context, args: &Update) -> Result<()> {
    let locked = context.open(&args.id)?.lock()?;
    let bytes = args.read()?;
    let resources = match &bytes {
        Some(bytes) => spec::parse_resources(bytes).map_err(|e| anyhow!("--resources: {e}"))?,
        None => args.described(),
    };
    let schemata = [&args.l3_cache_schema, &args.mem_bw_schema].into_iter().flatten().cloned().collect();
    lifecycle::update(&locked, &context.log, &Changes { resources, schemata })
}

impl Update {
    fn read(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = &self.resources else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = match path.to_str() {
            Some("-") => std::io::stdin().take(MAX_RESOURCES + 1).read_to_end(&mut bytes),
            _ => std::fs::File::open(path).and_then(|f| f.take(MAX_RESOURCES + 1).read_to_end(&mut bytes)),
        };
        let n = read.with_context(|| format!("--resources {}", path.display()))?;
        if n as u64 > MAX_RESOURCES {
            bail!("--resources {}: larger than {} MiB", path.display(), MAX_RESOURCES >> 20);
        }
        Ok(Some(bytes))
    }

    fn described(&self) -> Resources<'_> {
        let text = |text: &Option<String>| Str(Cow::Owned(text.clone().unwrap_or_default()));
        let mut resources = Resources::default();
        resources.block_io.weight = self.blkio_weight;
        resources.pids.limit = self.pids_limit;
        let cpu = &mut resources.cpu;
        (cpu.period, cpu.quota, cpu.burst) = (self.cpu_period, self.cpu_quota, self.cpu_burst);
        (cpu.realtime_period, cpu.realtime_runtime) = (self.cpu_rt_period, self.cpu_rt_runtime);
        (cpu.shares, cpu.idle) = (self.cpu_share, self.cpu_idle);
        (cpu.cpus, cpu.mems) = (text(&self.cpuset_cpus), text(&self.cpuset_mems));
        let memory = &mut resources.memory;
        (memory.limit, memory.swap) = (self.memory, self.memory_swap);
        (memory.reservation, memory.kernel_tcp) = (self.memory_reservation, self.kernel_memory_tcp);
        memory.kernel = self.kernel_memory;
        resources
    }
}
