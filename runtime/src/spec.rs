//! config.json as typed structs that borrow from the file's bytes.
//!
//! The field list is runtime-spec 1.3.0 (config.md, config-linux.md). Unknown properties are ignored, as the spec
//! asks; wrong types are errors. A slice that Go wrote as `null` reads as empty. Nothing here judges a value: that
//! is the planner's work, which knows what to do with it.

mod json_path;
mod values;

use serde::de::{Deserialize as De, Deserializer};
use serde::{Deserialize, Serialize};

pub use values::{Map, Str};

/// Go writes an empty slice or map without `omitempty` as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: De<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Declares structs of the document: every field may be missing or `null`, borrows, and is spelt in camelCase.
macro_rules! document {
    ($( $(#[$meta:meta])* $name:ident { $( $(#[$fmeta:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
        #[allow(missing_docs, reason = "the spec documents each property under the same name")]
        pub struct $name<'a> {
            $( $(#[$fmeta])* #[serde(default, deserialize_with = "null_is_empty")] pub $field: $ty, )*
            #[serde(skip)]
            pub(crate) _borrows: std::marker::PhantomData<&'a ()>,
        }
    )* };
}

mod scheduling;
mod seccomp;
pub use scheduling::{ExecCpuAffinity, IoPriority, MemoryPolicy, Personality, Scheduler};
pub use seccomp::{ArgumentTest, Seccomp, SyscallRule};

document! {
    /// The whole document (config.md).
    Spec {
        oci_version: Str<'a>,
        process: Option<Process<'a>>,
        root: Option<Root<'a>>,
        hostname: Option<Str<'a>>,
        domainname: Option<Str<'a>>,
        mounts: Vec<Mount<'a>>,
        hooks: Hooks<'a>,
        annotations: Map<'a, Str<'a>>,
        linux: Linux<'a>,
    }

    Root { path: Str<'a>, readonly: bool }

    /// config.md#process
    Process {
        terminal: bool,
        console_size: Option<ConsoleSize<'a>>,
        cwd: Str<'a>,
        env: Vec<Str<'a>>,
        args: Vec<Str<'a>>,
        user: User<'a>,
        rlimits: Vec<Rlimit<'a>>,
        no_new_privileges: bool,
        capabilities: Option<Capabilities<'a>>,
        apparmor_profile: Str<'a>,
        selinux_label: Str<'a>,
        oom_score_adj: Option<i32>,
        scheduler: Option<Scheduler<'a>>,
        io_priority: Option<IoPriority<'a>>,
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
    }

    ConsoleSize { height: u16, width: u16 }

    User { uid: u32, gid: u32, umask: Option<u32>, additional_gids: Vec<u32> }

    Rlimit { #[serde(rename = "type")] kind: Str<'a>, soft: u64, hard: u64 }

    Capabilities {
        bounding: Vec<Str<'a>>,
        effective: Vec<Str<'a>>,
        inheritable: Vec<Str<'a>>,
        permitted: Vec<Str<'a>>,
        ambient: Vec<Str<'a>>,
    }

    /// config.md#mounts
    Mount {
        destination: Str<'a>,
        #[serde(rename = "type")]
        kind: Str<'a>,
        source: Str<'a>,
        options: Vec<Str<'a>>,
        uid_mappings: Vec<IdMapping<'a>>,
        gid_mappings: Vec<IdMapping<'a>>,
    }

    /// config.md#posix-platform-hooks
    Hooks {
        prestart: Vec<Hook<'a>>,
        create_runtime: Vec<Hook<'a>>,
        create_container: Vec<Hook<'a>>,
        start_container: Vec<Hook<'a>>,
        poststart: Vec<Hook<'a>>,
        poststop: Vec<Hook<'a>>,
    }

    Hook { path: Str<'a>, args: Vec<Str<'a>>, env: Vec<Str<'a>>, timeout: Option<i64> }

    /// config-linux.md
    Linux {
        namespaces: Vec<Namespace<'a>>,
        uid_mappings: Vec<IdMapping<'a>>,
        gid_mappings: Vec<IdMapping<'a>>,
        time_offsets: Map<'a, TimeOffset<'a>>,
        devices: Vec<Device<'a>>,
        net_devices: Option<Map<'a, NetDevice<'a>>>,
        cgroups_path: Str<'a>,
        resources: Resources<'a>,
        sysctl: Map<'a, Str<'a>>,
        seccomp: Option<Seccomp<'a>>,
        rootfs_propagation: Str<'a>,
        masked_paths: Vec<Str<'a>>,
        readonly_paths: Vec<Str<'a>>,
        mount_label: Str<'a>,
        intel_rdt: Option<IntelRdt<'a>>,
        memory_policy: Option<MemoryPolicy<'a>>,
        personality: Option<Personality<'a>>,
    }

    Namespace { #[serde(rename = "type")] kind: Option<NamespaceKind>, path: Str<'a> }

    IdMapping {
        #[serde(rename = "containerID")]
        container_id: u32,
        #[serde(rename = "hostID")]
        host_id: u32,
        size: u32,
    }

    TimeOffset { secs: i64, nanosecs: u32 }

    Device {
        #[serde(rename = "type")]
        kind: Str<'a>,
        path: Str<'a>,
        major: Option<i64>,
        minor: Option<i64>,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }

    /// config-linux.md#network-devices
    NetDevice { name: Str<'a> }

    /// config-linux.md#intelrdt
    IntelRdt {
        #[serde(rename = "closID")]
        clos_id: Str<'a>,
        schemata: Vec<Str<'a>>,
        l3_cache_schema: Str<'a>,
        mem_bw_schema: Str<'a>,
        enable_monitoring: bool,
    }

    /// config-linux.md#control-groups
    Resources {
        devices: Vec<DeviceRule<'a>>,
        memory: Memory<'a>,
        cpu: Cpu<'a>,
        pids: Pids<'a>,
        #[serde(rename = "blockIO")]
        block_io: BlockIo<'a>,
        hugepage_limits: Vec<HugepageLimit<'a>>,
        network: Network<'a>,
        rdma: Map<'a, Rdma<'a>>,
        unified: Map<'a, Str<'a>>,
    }

    DeviceRule {
        allow: bool,
        #[serde(rename = "type")]
        kind: Str<'a>,
        major: Option<i64>,
        minor: Option<i64>,
        access: Str<'a>,
    }

    /// All sizes in bytes; -1 is "no limit".
    Memory {
        limit: Option<i64>,
        reservation: Option<i64>,
        swap: Option<i64>,
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        swappiness: Option<i64>,
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: bool,
        use_hierarchy: Option<bool>,
        check_before_update: bool,
    }

    /// Quota, period and burst in microseconds.
    Cpu {
        shares: Option<u64>,
        quota: Option<i64>,
        burst: Option<u64>,
        period: Option<u64>,
        realtime_runtime: Option<i64>,
        realtime_period: Option<u64>,
        cpus: Str<'a>,
        mems: Str<'a>,
        idle: Option<i64>,
    }

    Pids { limit: Option<i64> }

    BlockIo {
        weight: Option<u16>,
        leaf_weight: Option<u16>,
        weight_device: Vec<WeightDevice<'a>>,
        throttle_read_bps_device: Vec<ThrottleDevice<'a>>,
        throttle_write_bps_device: Vec<ThrottleDevice<'a>>,
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice<'a>>,
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice<'a>>,
    }

    WeightDevice { major: i64, minor: i64, weight: Option<u16>, leaf_weight: Option<u16> }

    ThrottleDevice { major: i64, minor: i64, rate: u64 }

    HugepageLimit { page_size: Str<'a>, limit: u64 }

    Network { #[serde(rename = "classID")] class_id: Option<u32>, priorities: Vec<NetworkPriority<'a>> }

    NetworkPriority { name: Str<'a>, priority: u32 }

    Rdma { hca_handles: Option<u32>, hca_objects: Option<u32> }
}

/// config-linux.md#namespaces
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the kernel's eight kinds, namespaces(7)")]
pub enum NamespaceKind {
    User,
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl<'de> De<'de> for NamespaceKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // By hand, because serde's own reader of enums calls a number "expected value".
        use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts};
        const NAMES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
        let name = Str::deserialize(d)?;
        let found = NAMES.iter().position(|known| **known == *name);
        let found = found.ok_or_else(|| serde::de::Error::unknown_variant(&name, &NAMES))?;
        Ok([Pid, Network, Mount, Ipc, Uts, User, Cgroup, Time][found])
    }
}

/// Reads the document.
///
/// # Errors
/// The JSON path, what was found and what was expected, the line and the column.
pub fn parse(bytes: &[u8]) -> Result<Spec<'_>, String> {
    let mut spec: Spec<'_> = read(bytes)?;
    // Until 1.3 "0" meant no limit to every runtime, and podman and CRI-O write it for that.
    let pids = &mut spec.linux.resources.pids.limit;
    if *pids == Some(0) && minor(&spec.oci_version).is_some_and(|minor| minor < 3) {
        *pids = Some(-1);
    }
    Ok(spec)
}

/// The N of 1.N.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

/// Reads the document of a process alone, as `exec --process` takes it.
///
/// # Errors
/// As those of [`parse`]; paths begin at the process.
pub fn parse_process(bytes: &[u8]) -> Result<Process<'_>, String> {
    read(bytes)
}

/// Reads `linux.resources` alone, as `update --resources` takes it.
///
/// # Errors
/// As those of [`parse`]; paths begin at the resources.
pub fn parse_resources(bytes: &[u8]) -> Result<Resources<'_>, String> {
    read(bytes)
}

fn read<'a, T: De<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| match json_path::path(bytes, e.line(), e.column()) {
        path if path.is_empty() => e.to_string(),
        path => format!("{path}: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn no_processes_are_no_limit_before_1_3() {
        let limit = |version: &str, limit: i64| {
            let text = format!(
                r#"{{"ociVersion":"{version}","linux":{{"resources":{{"pids":{{"limit":{limit}}}}}}}}}"#
            );
            parse(text.as_bytes()).unwrap().linux.resources.pids.limit
        };
        for old in ["1.0.2-dev", "1.2.1"] {
            assert_eq!(limit(old, 0), Some(-1));
            assert_eq!(limit(old, 5), Some(5));
        }
        for new in ["1.3.0", "1.10.0"] {
            assert_eq!(limit(new, 0), Some(0));
        }
    }

    #[test]
    fn a_wrong_type_names_its_path_and_what_was_expected() {
        let e = parse(br#"{"process":{"user":{"uid":"abc"}}}"#).unwrap_err();
        assert!(e.starts_with("process.user.uid: invalid type: string \"abc\", expected u32"), "{e}");
        let e = parse(br#"{"linux":{"namespaces":[{"type":"pid"},{"type":"moon"}]}}"#).unwrap_err();
        assert!(e.starts_with("linux.namespaces[1].type: unknown variant `moon`, expected one of"), "{e}");
    }

    #[test]
    fn null_and_missing_read_alike_and_unknown_properties_are_ignored() {
        let a = parse(
            br#"{"mounts":null,"process":{"args":null,"new":1},"annotations":null,"linux":null,"x":{}}"#,
        );
        let b = parse(br#"{"process":{}}"#);
        assert_eq!(a.unwrap(), b.unwrap());
    }

    #[test]
    fn strings_borrow_unless_they_had_escapes() {
        let spec = parse(br#"{"process":{"args":["plain","esc\n"]}}"#).unwrap();
        let args = spec.process.unwrap().args;
        assert!(matches!(args[0].0, Cow::Borrowed("plain")));
        assert!(matches!(&args[1].0, Cow::Owned(s) if s == "esc\n"));
    }
}
