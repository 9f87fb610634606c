//! `/proc`'s text as values.

use std::collections::BTreeSet;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path inside the mounted file system that is shown.
    pub root: String,
    /// Where it is mounted.
    pub target: String,
    /// The mount's own options (`ro`, `nosuid`, …).
    pub options: BTreeSet<String>,
    /// `shared:N`, `master:N`, `unbindable`; empty when private.
    pub propagation: Vec<String>,
    /// The file system's type.
    pub kind: String,
    /// What was mounted.
    pub source: String,
    /// The file system's options, shared by all of its mounts.
    pub super_options: BTreeSet<String>,
}

impl Mount {
    /// Whether the mount itself has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// Every mount in a mountinfo text, oldest first.
    pub fn parse(text: &str) -> Vec<Self> {
        text.lines().map(Self::parse_line).collect()
    }

    fn parse_line(line: &str) -> Self {
        let words = |text: &str| text.split(' ').map(unescape).collect::<Vec<_>>();
        let (left, right) = line.split_once(" - ").unwrap_or_else(|| panic!("not mountinfo: {line}"));
        let (left, right) = (words(left), words(right));
        let set = |text: &str| text.split(',').map(str::to_owned).collect();
        Self {
            root: left[3].clone(),
            target: left[4].clone(),
            options: set(&left[5]),
            propagation: left[6..].iter().filter(|w| !w.is_empty()).cloned().collect(),
            kind: right[0].clone(),
            source: right[1].clone(),
            super_options: set(&right[2]),
        }
    }
}

/// mountinfo writes blank, tab, newline and backslash as three octal digits.
fn unescape(word: &str) -> String {
    word.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The mounts that this process sees.
pub fn mountinfo() -> Vec<Mount> {
    Mount::parse(&std::fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo"))
}

/// The value of a field of `/proc/PID/status`, blanks squeezed: `field(text, "CapBnd")`.
pub fn field(status: &str, name: &str) -> String {
    let line = status.lines().find(|l| l.split_once(':').is_some_and(|(key, _)| key == name));
    let value =
        line.unwrap_or_else(|| panic!("no {name} in {status}")).split_once(':').map_or("", |(_, v)| v);
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Live processes (no zombies) whose command line or cgroup mentions `text`, this process left out.
pub fn pids_mentioning(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("read /proc").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != std::process::id() as i32)
        .filter(|pid| {
            let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let stat = String::from_utf8_lossy(&read("stat")).into_owned();
            let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
            let seen = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(text);
            !zombie && (seen(&read("cmdline")) || seen(&read("cgroup")))
        })
        .collect()
}
