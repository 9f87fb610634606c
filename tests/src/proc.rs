//! What /proc says of processes and mounts, as values.

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

    /// The topmost mount at a path; panics when there is none.
    #[track_caller]
    pub fn at<'a>(mounts: &'a [Self], target: &str) -> &'a Self {
        let found = mounts.iter().rfind(|mount| mount.target == target);
        found.unwrap_or_else(|| panic!("nothing at {target}: {mounts:#?}"))
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
    let read = |pid: i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let is_zombie =
        |pid: i32| read(pid, "stat").rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    pids.filter(|pid| *pid != std::process::id() as i32)
        .filter(|pid| ["cmdline", "cgroup"].iter().any(|file| read(*pid, file).contains(text)))
        .filter(|pid| !is_zombie(*pid))
        .collect()
}

/// A process's command line, its words apart by blanks; empty when it has ended.
pub fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}

/// The processes below a process: its children, theirs, and so on.
pub fn descendants_of(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().flat_map(|child| [vec![child], descendants_of(child)].concat()).collect()
}
