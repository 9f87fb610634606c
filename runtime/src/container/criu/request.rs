//! What CRIU is asked for, and what it says: the messages of its rpc.proto.

use anyhow::{Result, bail};

use super::wire::{Message, Value, fields};

/// A kind of request, and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// What becomes of the cgroups' properties (criu_cg_mode; `--manage-cgroups-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "CRIU's own names")]
pub enum CgroupMode {
    Ignore = 0,
    Soft = 3,
    Full = 4,
    Strict = 5,
    /// What CRIU itself thinks best.
    #[default]
    Default = 6,
}

impl CgroupMode {
    /// Reads the flag; nothing means the default.
    ///
    /// # Errors
    /// A word that is none of the four.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "" => CgroupMode::Default,
            "soft" => CgroupMode::Soft,
            "full" => CgroupMode::Full,
            "strict" => CgroupMode::Strict,
            "ignore" => CgroupMode::Ignore,
            _ => bail!("--manage-cgroups-mode: {word:?}, expected soft, full, strict or ignore"),
        })
    }
}

/// How packets are held back while nobody could answer them (criu_network_lock_method).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkLock {
    /// CRIU 3.17.
    Nftables = 2,
    /// Not at all. CRIU 4.0, perhaps earlier.
    Skip = 3,
}

/// What the caller decides, in the words of runc's flags.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "runc's own flags")]
pub struct Wishes {
    pub leave_running: bool,
    pub tcp_established: bool,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub auto_dedup: bool,
    pub lazy_pages: bool,
    pub cgroup_mode: CgroupMode,
    /// An address and a port.
    pub page_server: Option<(String, u16)>,
    /// Where the images of the dump before this one are, seen from the new ones.
    pub parent: Option<String>,
    pub lsm_profile: Option<String>,
    pub lsm_mount_context: Option<String>,
    /// More options, in CRIU's own configuration file.
    pub config_file: Option<String>,
}

/// A dump or a restore (criu_opts). Descriptors are numbers of this process, but for the inherited ones.
#[derive(Default)]
pub struct Request {
    /// What the caller decides.
    pub wishes: Wishes,
    /// The directory of the images.
    pub images: i32,
    /// The directory of everything else, the log among it.
    pub work: i32,
    /// The log's name there.
    pub log: &'static str,
    /// The container's root: at a restore, where it is mounted.
    pub root: String,
    /// Whom to dump.
    pub pid: Option<i32>,
    /// Whether the processes become children of ours rather than of CRIU's.
    pub siblings: bool,
    /// The cgroup whose freezer holds the processes.
    pub freezer: Option<String>,
    /// At a dump: a mountpoint, and its name in the images. At a restore: the name, and what it is on the host.
    pub mounts: Vec<(String, String)>,
    /// Other things that are the host's: `net[INODE]:NAME`, `file[MOUNT:INODE]`.
    pub external: Vec<String>,
    /// Namespaces to be joined: CRIU's name of the kind, and the path.
    pub joined: Vec<(&'static str, String)>,
    /// Names in the images, and CRIU's own descriptors that stand for them.
    pub inherited: Vec<(String, i32)>,
    /// Controllers, and where the restored processes' cgroups are.
    pub cgroups: Vec<(String, String)>,
    /// How the network's packets are held back; by iptables if there is no word about it.
    pub lock: Option<NetworkLock>,
}

impl Request {
    /// criu_opts, by its field numbers.
    fn options(&self) -> Message {
        let mut out = Message::default();
        let wishes = &self.wishes;
        out.number(1, self.images as u64);
        if let Some(pid) = self.pid {
            out.number(2, pid as u64);
        }
        out.flag(3, wishes.leave_running);
        out.flag(4, wishes.ext_unix_sk);
        out.flag(5, wishes.tcp_established);
        // evasive_devices: a device whose path has gone may be found by its number.
        out.flag(6, self.pid.is_none());
        out.flag(7, wishes.shell_job);
        out.flag(8, wishes.file_locks);
        out.number(9, 4); // log_level: debug
        out.bytes(10, self.log.as_bytes());
        if let Some((address, port)) = &wishes.page_server {
            let mut server = Message::default();
            server.bytes(1, address.as_bytes());
            server.number(2, u64::from(*port));
            out.bytes(11, &server.0);
        }
        out.flag(12, true); // notify_scripts
        out.bytes(13, self.root.as_bytes());
        if let Some(parent) = &wishes.parent {
            out.bytes(14, parent.as_bytes());
            out.flag(15, true); // track_mem
        }
        out.flag(16, wishes.auto_dedup);
        out.number(17, self.work as u64);
        out.flag(18, wishes.link_remap);
        self.mounts.iter().for_each(|(key, value)| out.pair(23, key, value));
        self.cgroups.iter().for_each(|(controller, path)| out.pair(25, controller, path));
        out.flag(26, self.siblings);
        for (name, fd) in &self.inherited {
            let mut pair = Message::default();
            pair.bytes(1, name.as_bytes());
            pair.number(2, *fd as u64);
            out.bytes(27, &pair.0);
        }
        out.number(34, wishes.cgroup_mode as u64);
        self.external.iter().for_each(|text| out.bytes(37, text.as_bytes()));
        // empty_ns: network devices are those of whoever made them (runc does the same).
        out.number(38, libc::CLONE_NEWNET as u64);
        self.joined.iter().for_each(|(kind, path)| out.pair(39, kind, path));
        let text = |out: &mut Message, field, value: &Option<String>| {
            value.iter().for_each(|text| out.bytes(field, text.as_bytes()));
        };
        text(&mut out, 44, &self.freezer);
        out.flag(46, wishes.tcp_skip_in_flight);
        out.flag(48, wishes.lazy_pages);
        out.flag(50, true); // orphan_pts_master: the pty master is ours, not the container's
        text(&mut out, 51, &wishes.config_file);
        text(&mut out, 53, &wishes.lsm_profile);
        text(&mut out, 63, &wishes.lsm_mount_context);
        if let Some(lock) = self.lock {
            out.number(64, lock as u64);
        }
        out
    }

    /// criu_req.
    pub(super) fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut out = Message::default();
        out.number(1, kind as u64);
        out.bytes(2, &self.options().0);
        out.0
    }
}

/// A question after which CRIU waits for the next: its version, or whether it can do something (criu_features).
pub(super) fn question(kind: Kind, feature: Option<Feature>) -> Vec<u8> {
    let mut out = Message::default();
    out.number(1, kind as u64);
    out.flag(4, true); // keep_open
    if let Some(feature) = feature {
        let mut features = Message::default();
        features.flag(feature as u64, true);
        out.bytes(5, &features.0);
    }
    out.0
}

/// The answer to a notification.
pub(super) fn acknowledgement(success: bool) -> Vec<u8> {
    let mut out = Message::default();
    out.number(1, Kind::Notify as u64);
    out.number(3, u64::from(success));
    out.0
}

/// What depends on the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "CRIU's own names")]
pub enum Feature {
    MemTrack = 1,
    LazyPages = 2,
}

/// What CRIU says (criu_resp).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) kind: u64,
    pub(super) success: bool,
    /// Of the root of the restored processes.
    pub(super) pid: i32,
    /// A notification's name.
    pub(super) script: String,
    pub(super) errno: i32,
    /// The numbers of the features that are there.
    pub(super) features: Vec<u64>,
    /// Major, minor and sublevel.
    pub(super) version: [u64; 3],
}

impl Response {
    /// # Errors
    /// The bytes are no message.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut out = Response::default();
        let text = |value: Value<'_>| String::from_utf8_lossy(value.bytes()).into_owned();
        for (field, value) in fields(bytes)? {
            match field {
                1 => out.kind = value.number(),
                2 => out.success = value.number() != 0,
                // criu_restore_resp has the pid as its first field, criu_notify as its second.
                4 | 5 => {
                    for (part, value) in fields(value.bytes())? {
                        match (field, part) {
                            (4, 1) | (5, 2) => out.pid = value.number() as i32,
                            (5, 1) => out.script = text(value),
                            _ => {}
                        }
                    }
                }
                7 => out.errno = value.number() as i32,
                8 => {
                    let there = fields(value.bytes())?.into_iter().filter(|(_, v)| v.number() != 0);
                    out.features = there.map(|(feature, _)| feature).collect();
                }
                10 => {
                    for (part, value) in fields(value.bytes())? {
                        match part {
                            1 => out.version[0] = value.number(),
                            2 => out.version[1] = value.number(),
                            4 => out.version[2] = value.number(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_their_field_numbers() {
        let mut inner = Message::default();
        inner.bytes(1, b"post-restore");
        inner.number(2, 4711);
        let mut out = Message::default();
        out.number(1, Kind::Notify as u64);
        out.number(2, 1);
        out.bytes(5, &inner.0);
        out.bytes(77, b"of a later version");
        let read = Response::decode(&out.0).unwrap();
        let wanted = Response {
            kind: 6,
            success: true,
            pid: 4711,
            script: "post-restore".to_owned(),
            ..Response::default()
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_wish_is_the_option_of_that_number() {
        let fields_of = |wishes: Wishes| -> Vec<u64> {
            let request = Request { wishes, pid: Some(1), ..Request::default() };
            fields(&request.options().0).unwrap().into_iter().map(|(field, _)| field).collect()
        };
        let none = fields_of(Wishes::default());
        let text = || Some("text".to_owned());
        // criu/images/rpc.proto, criu_opts
        let wishes = [
            (3, Wishes { leave_running: true, ..Wishes::default() }),
            (4, Wishes { ext_unix_sk: true, ..Wishes::default() }),
            (5, Wishes { tcp_established: true, ..Wishes::default() }),
            (7, Wishes { shell_job: true, ..Wishes::default() }),
            (8, Wishes { file_locks: true, ..Wishes::default() }),
            (11, Wishes { page_server: Some(("::1".to_owned(), 27)), ..Wishes::default() }),
            (14, Wishes { parent: text(), ..Wishes::default() }),
            (16, Wishes { auto_dedup: true, ..Wishes::default() }),
            (18, Wishes { link_remap: true, ..Wishes::default() }),
            (46, Wishes { tcp_skip_in_flight: true, ..Wishes::default() }),
            (48, Wishes { lazy_pages: true, ..Wishes::default() }),
            (51, Wishes { config_file: text(), ..Wishes::default() }),
            (53, Wishes { lsm_profile: text(), ..Wishes::default() }),
            (63, Wishes { lsm_mount_context: text(), ..Wishes::default() }),
        ];
        for (number, wish) in wishes {
            let added = fields_of(wish).into_iter().find(|field| !none.contains(field));
            assert_eq!(added, Some(number));
        }
    }

    #[test]
    fn words_of_the_cgroup_mode_are_runcs() {
        assert_eq!(CgroupMode::parse("").unwrap(), CgroupMode::Default);
        assert_eq!(CgroupMode::parse("ignore").unwrap() as u8, 0);
        assert!(CgroupMode::parse("loose").is_err());
    }
}
