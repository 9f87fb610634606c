//! The walls of the house that Cargo can't build, checked by reading the sources.

use ampoule_tests::workspace;
use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder, with its text.
pub(crate) fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![workspace().join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("read a source file");
                found.push((path.strip_prefix(workspace()).expect("below the top").to_owned(), text));
            }
        }
    }
    found
}

/// The sources of a module without its unit tests, whether `name.rs`, a folder `name/`, or both. Never empty: a
/// renamed module must not make its rule pass by vanishing.
fn module(name: &str) -> Vec<(PathBuf, String)> {
    let (file, folder) = (format!("runtime/src/{name}.rs"), format!("runtime/src/{name}/"));
    let is_part = |path: &Path| path == Path::new(&file) || path.to_string_lossy().starts_with(&folder);
    let mut found: Vec<_> = sources("runtime/src").into_iter().filter(|(path, _)| is_part(path)).collect();
    let tests: Vec<_> = found.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    found.retain(|(path, _)| !tests.contains(path));
    assert!(!found.is_empty(), "the runtime has no module {name}: has a wall moved?");
    found
}

/// The files that `#[cfg(test)] mod NAME;` declares.
fn test_files(path: &Path, text: &str) -> Vec<PathBuf> {
    let dir = if path.ends_with("mod.rs") { path.with_file_name("") } else { path.with_extension("") };
    let declarations = text.split("#[cfg(test)]").skip(1);
    let names = declarations.filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'));
    // A block, `mod tests {`, has its first semicolon behind a brace.
    names.filter(|(name, _)| !name.contains('{')).map(|(name, _)| dir.join(format!("{name}.rs"))).collect()
}

/// A file's text up to its block of unit tests, which stands last.
pub(crate) fn body(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// A line without its comment. (No string of the runtime's own holds `//` and a forbidden name.)
pub(crate) fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Lines of a module that mention one of these.
fn mentions(module: Vec<(PathBuf, String)>, names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in module {
        for (number, line) in body(&text).lines().enumerate() {
            if names.iter().any(|name| has_word(code(line), name)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

/// Whether `name` stands in `text` as words of its own.
fn has_word(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(part) && (name.ends_with(':') || !after.is_some_and(part))
    })
}

#[test]
fn plan_never_touches_the_world() {
    let world = [
        "linux::",
        "cgroup::Cgroup",
        "cgroup::probe",
        "cgroup::stats",
        "cgroup::oom",
        "dbus::Bus",
        "facts::probe",
        "crate::launch",
        "std::fs",
        "std::process",
        "std::os",
        "std::env",
        "std::net",
        "nix",
    ];
    assert_eq!(mentions(module("plan"), &world), [""; 0]);
}

#[test]
fn plan_knows_neither_containers_nor_the_command_line() {
    assert_eq!(mentions(module("plan"), &["crate::container", "crate::cli", "crate::report"]), [""; 0]);
}

#[test]
fn launch_never_reads_the_spec() {
    // A step may carry one of the spec's words, such as a namespace's kind; never the document.
    assert_eq!(
        mentions(module("launch"), &["Spec", "spec::parse", "spec::Process", "crate::bundle"]),
        [""; 0]
    );
}

#[test]
fn spec_knows_nobody() {
    assert_eq!(mentions(module("spec"), &["crate::", "super::super::"]), [""; 0]);
}

#[test]
fn pause_knows_nobody_and_its_library_makes_no_system_call() {
    let manifest = fs::read_to_string(workspace().join("pause/Cargo.toml")).expect("read pause's manifest");
    assert!(!manifest.contains("[dependencies]") && !manifest.contains("[build-dependencies]"), "{manifest}");
    let program = sources("pause/src");
    assert!(program.len() > 5, "where has pause gone?");
    assert_eq!(mentions(program, &["ampoule", "std::", "extern crate"]), [""; 0]);
    for room in ["options", "signals", "text"] {
        let is_part =
            |path: &Path| path.starts_with("pause/src") && path.file_stem().is_some_and(|s| s == room);
        let found: Vec<_> = sources("pause/src").into_iter().filter(|(path, _)| is_part(path)).collect();
        assert_eq!(found.len(), 1, "pause has no room {room}");
        assert_eq!(mentions(found, &["sys", "crate::init", "crate::reap"]), [""; 0]);
    }
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let all = ["runtime", "tests", "shim", "pause", "bundles"].into_iter().flat_map(sources);
    let long: Vec<_> =
        all.map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > 400).collect();
    assert_eq!(long, [], "split them by meaning");
}

/// How many functions of what is shipped may have more than 50 lines: the order of a plan, and matches over all its steps.
const LONG_FUNCTIONS: usize = 8;

/// Each function of a file: its length, from `fn` to its brace, where it begins, and its name. Needs a text that rustfmt has
/// laid out: a function ends with the first brace that stands under its `fn`.
fn functions(text: &str) -> Vec<(usize, usize, String)> {
    let lines: Vec<&str> = body(text).lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let head = lines[at..].iter().position(|line| line.ends_with(['{', ';', '}'])).unwrap_or(0);
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let rest = match lines[at + head].ends_with('{') {
            true => lines[at + head..].iter().position(|line| **line == end).unwrap_or(0),
            false => 0,
        };
        found.push((head + rest + 1, at + 1, name.to_owned()));
    }
    found
}

/// The name of the function that a line begins.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = code(line).split_once("fn ")?;
    let is_qualifier = |word: &str| ["pub", "const", "unsafe", "async", "extern"].contains(&word);
    let mut words = before.split_whitespace();
    let is_function =
        words.all(|word| is_qualifier(word) || word.starts_with("pub(") || word.starts_with('"'));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_function && end > 0).then(|| &after[..end])
}

#[test]
fn functions_are_counted_to_their_end() {
    let text = "impl A {\n    pub(crate) fn one(\n        a: u8,\n    ) {\n        if a {\n        }\n    }\n}\n\n\
                unsafe extern \"C\" fn two() {}\n\nfn three();\n\nfn four() {\n    let f: fn (u8) = g;\n}\n";
    let expected = [(6, 2, "one"), (1, 10, "two"), (1, 12, "three"), (3, 14, "four")];
    assert_eq!(functions(text), expected.map(|(length, at, name)| (length, at, name.to_owned())));
}

#[test]
fn few_functions_of_what_is_shipped_have_more_than_50_lines() {
    let shipped: Vec<_> = ["runtime", "shim", "pause", "bundles"].into_iter().flat_map(sources).collect();
    let unit_tests: Vec<_> = shipped.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests");
    let (mut long, mut count) = (Vec::new(), 0);
    for (path, text) in shipped.iter().filter(|(path, _)| !is_test(path) && !unit_tests.contains(path)) {
        let all = functions(text);
        count += all.len();
        let all = all.into_iter().filter(|(length, ..)| *length > 50);
        long.extend(all.map(|(length, line, name)| (length, format!("{}:{line}: {name}", path.display()))));
    }
    assert!(count > 1000, "only {count} functions are seen: does the count still work?");
    long.sort_by(|a, b| b.cmp(a));
    let long: Vec<_> = long.iter().map(|(length, place)| format!("{length} lines: {place}")).collect();
    assert!(
        long.len() <= LONG_FUNCTIONS,
        "more than {LONG_FUNCTIONS} are long; split them by meaning: {long:#?}"
    );
}

#[test]
fn nothing_is_called_utils_common_or_helpers() {
    for (path, _) in ["runtime", "tests", "shim", "pause", "bundles"].into_iter().flat_map(sources) {
        let names = ["utils", "util", "common", "helpers", "helper", "misc"];
        let bad = path
            .components()
            .any(|c| names.contains(&c.as_os_str().to_string_lossy().trim_end_matches(".rs")));
        assert!(!bad, "{}: name it by what it means", path.display());
    }
}
