//! No error is turned into "there is none" unseen: what is absent is told in one place, and what is dropped has a reason.

use crate::architecture::{body, code, sources};

/// Where the rules hold: where anything is asked of the host.
const ROOMS: [&str; 10] = [
    "runtime/cgroup/src/",
    "runtime/interface/src/",
    "runtime/linux/src/",
    "runtime/src/cli/",
    "runtime/src/container/",
    "runtime/src/facts.rs",
    "runtime/src/facts/",
    "runtime/src/launch/",
    "runtime/src/lifecycle/",
    "shim/src/",
];

/// The one place.
const ABSENT: &str = "runtime/linux/src/absent.rs";

/// A line of code, and where it is.
struct Line {
    place: String,
    code: String,
    /// Whether a comment stands above it, or above the lines like it that it follows.
    is_explained: bool,
}

fn lines() -> Vec<Line> {
    let mut found = Vec::new();
    for (path, text) in ["runtime", "shim/src"].into_iter().flat_map(sources) {
        let name = path.display().to_string();
        if name == ABSENT || name.ends_with("tests.rs") || !ROOMS.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        let mut is_explained = false;
        for (number, line) in body(&text).lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let code = code(line).to_owned();
            found.push(Line { place: format!("{name}:{}: {}", number + 1, line.trim()), code, is_explained });
            is_explained = is_comment || is_explained && drops(code_of(&found));
        }
    }
    assert!(found.len() > 10_000, "where have the rooms gone?");
    found
}

fn code_of(lines: &[Line]) -> &str {
    lines.last().map_or("", |line| &line.code)
}

/// std's questions about a path answer "no" to any error. A kind that was read is called so.
#[test]
fn whether_a_path_is_there_is_asked_in_one_place() {
    let asks = |line: &str| {
        let kinds = [".is_dir()", ".is_file()", ".is_symlink()"];
        let of_a_kind = |at: usize| line[..at].ends_with("kind") || line[..at].ends_with("kind()");
        line.contains("read_dir(")
            || line.contains("try_exists(")
            || line.match_indices(".exists()").any(|(at, word)| !line[at + word.len()..].starts_with('?'))
            || kinds.iter().flat_map(|kind| line.match_indices(kind)).any(|(at, _)| !of_a_kind(at))
    };
    let found: Vec<_> = lines().into_iter().filter(|line| asks(&line.code)).map(|line| line.place).collect();
    assert!(found.is_empty(), "see {ABSENT}: {found:#?}");
}

/// Whether a line makes a call whose error goes nowhere.
fn drops(line: &str) -> bool {
    const CALLS: [&str; 10] = [
        "fs::",
        "kernfs::",
        "File::",
        "Command::",
        "poll(",
        "read_link(",
        "statfs(",
        "waitpid(",
        "connect(",
        "kill(",
    ];
    const SILENT: [&str; 7] = [
        ".ok()",
        ".is_ok()",
        ".is_ok_and(",
        ".is_err()",
        ".unwrap_or(",
        ".unwrap_or_default()",
        "if let Ok(",
    ];
    let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
    line.contains("let _ = ") || has(&CALLS) && has(&SILENT)
}

#[test]
fn an_error_that_is_dropped_has_a_reason_above_it() {
    let unexplained = |line: &Line| drops(&line.code) && !line.is_explained;
    let found: Vec<_> = lines().into_iter().filter(unexplained).map(|line| line.place).collect();
    assert!(found.is_empty(), "{found:#?}");
}
