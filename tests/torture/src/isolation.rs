//! What a program inside says of its isolation, without what differs by nature: two reports of the same config are equal,
//! or one of the programs has less than it should.

use ampoule_tests::{Cgroups, Mount, field};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What is asked. The first answer begins a report.
const QUESTIONS: &[&str] = &[
    "args",
    "cat /proc/self/status",
    "cat /proc/self/mountinfo",
    "cat /proc/self/limits",
    "cat /proc/self/cgroup",
    "cat /proc/self/uid_map",
    "cat /proc/self/gid_map",
    "cat /proc/self/oom_score_adj",
    "cat /proc/self/attr/current",
    "cat /proc/sys/kernel/hostname",
    "ns",
    "fds",
    "env",
    "cwd",
    "ls /",
    "ls /dev",
    "stat /dev/null",
    "ls /proc/acpi",
    "ls /proc/scsi",
    "ls /sys/firmware",
    "cat /proc/keys",
    "open /proc/kcore r",
    "open /proc/timer_list r",
    "open /proc/sys/vm/swappiness w",
    "open /proc/sysrq-trigger w",
    "open /sys/kernel/profiling w",
    "open /dev/kmsg w",
    "mkdir /made",
    "mknod /tmp/device c 1 3",
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
    #[cfg(target_arch = "x86_64")]
    "syscall 250 0 4294967293 0",
];

/// The last words before a program sleeps.
pub const SLEEPS: &str = "\"sleeping\"";

/// What the program `probe` is called with. The id stands in its command line, by which it is found if it is left.
pub fn questions(sleeps: bool, id: &str) -> Vec<String> {
    let mut words = Vec::new();
    for question in QUESTIONS {
        words.extend(question.split(' ').map(str::to_owned));
        words.push(",".into());
    }
    let last: &[&str] = if sleeps { &["sleep", "1000"] } else { &["cwd"] };
    words.extend(last.iter().map(|word| (*word).to_owned()));
    words.extend([",".into(), "cat".into(), format!("/{id}")]);
    words
}

/// The answers by their question.
#[derive(Debug, Clone, PartialEq)]
pub struct IsolationReport(BTreeMap<String, Value>);

impl IsolationReport {
    /// The report in what a container has printed: hooks may have said something before.
    pub fn read(text: &str, id: &str, bundle: &Path) -> Result<Self, String> {
        let bundle = bundle.to_str().expect("a UTF-8 path");
        let named = |line: &str| line.trim_end().replace(bundle, "BUNDLE").replace(id, "ID");
        let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("[\"/bin/probe\"")).collect();
        if lines.len() < QUESTIONS.len() {
            return Err(format!("{} of {} answers", lines.len(), QUESTIONS.len()));
        }
        let mut answers = BTreeMap::new();
        for (question, line) in QUESTIONS.iter().zip(lines) {
            let answer: Value =
                serde_json::from_str(&named(line)).map_err(|e| format!("{question}: {e}: {line}"))?;
            answers.insert((*question).to_owned(), normal(question, answer));
        }
        Ok(Self(answers))
    }

    /// Adds what only the host sees: the limits of the process's cgroups.
    pub fn and_limits_of(&mut self, pid: i32) {
        let cgroups = Cgroups::of(pid);
        for (controller, file) in [
            ("devices", "devices.list"),
            ("pids", "pids.max"),
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.max"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.weight"),
        ] {
            if cgroups.dir(controller).join(file).exists() {
                self.0.insert(file.to_owned(), json!(cgroups.read(controller, file)));
            }
        }
    }

    /// Where another report differs from this one, one line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let of = |report: &Self, question: &str| report.0.get(question).cloned().unwrap_or_default();
        let asked = self.0.keys().chain(other.0.keys().filter(|question| !self.0.contains_key(*question)));
        asked
            .filter(|question| of(self, question) != of(other, question))
            .map(|question| tell(question, &of(self, question), &of(other, question)))
            .collect()
    }
}

/// Lines of a text that differ, not the whole of it.
fn tell(question: &str, wanted: &Value, seen: &Value) -> String {
    let lines = |value: &Value| match value {
        Value::Array(all) => all.iter().map(Value::to_string).collect::<Vec<_>>(),
        other => vec![other.to_string()],
    };
    let (wanted, seen) = (lines(wanted), lines(seen));
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).cloned().collect::<Vec<_>>().join(" ")
    };
    format!("{question}: -[{}] +[{}]", only(&wanted, &seen), only(&seen, &wanted))
}

/// An answer without numbers that are new each time.
fn normal(question: &str, answer: Value) -> Value {
    let text = answer.as_str().unwrap_or_default().to_owned();
    match question {
        "cat /proc/self/status" if !text.is_empty() => json!(
            [
                "Umask",
                "Uid",
                "Gid",
                "Groups",
                "CapInh",
                "CapPrm",
                "CapEff",
                "CapBnd",
                "CapAmb",
                "NoNewPrivs",
                "Seccomp",
                "Seccomp_filters",
                "Cpus_allowed",
                "Mems_allowed",
                "SigBlk",
                "SigIgn",
            ]
            .map(|name| format!("{name} {}", field(&text, name)))
        ),
        "cat /proc/self/mountinfo" if !text.is_empty() => {
            json!(Mount::parse(&text).iter().map(mount).collect::<Vec<_>>())
        }
        "cat /proc/self/limits" => json!(text.lines().collect::<Vec<_>>()),
        // Some tests mount a hierarchy of this kind for a while, in which every process then is.
        "cat /proc/self/cgroup" => json!(text.lines().filter(|l| !l.contains("net_cls")).collect::<Vec<_>>()),
        "ns" => json!(
            answer
                .as_object()
                .into_iter()
                .flatten()
                .map(|(kind, link)| whose(kind, link))
                .collect::<Vec<_>>()
        ),
        "fds" => json!(
            answer.as_object().into_iter().flatten().map(|(fd, link)| open(fd, link)).collect::<Vec<_>>()
        ),
        "stat /dev/null" => json!([answer["type"], answer["mode"], answer["uid"], answer["rdev"]]),
        _ if question.starts_with("syscall") => json!(answer.is_number().then(|| whose_keyring(&answer))),
        _ => answer,
    }
}

fn mount(mount: &Mount) -> String {
    // A group's number is new each time; that there is one is not.
    let groups = mount.propagation.iter().map(|group| group.split(':').next().unwrap_or_default());
    format!(
        "{} on {} from {} {} {:?} {:?} {:?}",
        mount.kind,
        mount.target,
        mount.source,
        mount.root,
        mount.options,
        mount.super_options,
        groups.collect::<Vec<_>>()
    )
}

fn whose(kind: &str, link: &Value) -> String {
    let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    format!("{kind} {}", if link.as_str() == host.to_str() { "the host's" } else { "its own" })
}

fn open(fd: &str, link: &Value) -> String {
    let link = link.as_str().unwrap_or_default();
    // pipe:[12345]
    format!("{fd} {}", link.split_once(":[").map_or(link, |(kind, _)| kind))
}

fn whose_keyring(serial: &Value) -> &'static str {
    if serial.as_i64() == crate::sys::session_keyring() { "the host's" } else { "its own" }
}
