//! Configuration and command lines that the documentation tells users to write: the engines here are set up with just these.

use crate::Runtime;
use crate::programs::workspace;
use std::path::Path;

/// Where the documentation's readers have the runtime.
const INSTALLED: &str = "/usr/local/bin/ampoule";

/// The block that `docs/drop-in.md` has below the line that names this file, with the runtime under test in the place of
/// the installed one.
pub fn documented(file: &str) -> String {
    let block = documented_in("drop-in.md", file);
    assert!(block.contains(INSTALLED), "nothing of {INSTALLED} is documented below {file}");
    block.replace(INSTALLED, &runtime())
}

/// The block that a page has below the line that has this in backticks, to the letter.
pub(super) fn documented_in(page: &str, name: &str) -> String {
    let text = page_of(page);
    let mut lines = text.lines().skip_while(|line| !line.contains(&format!("`{name}`"))).skip(1);
    let lines = lines.by_ref().skip_while(|line| line.is_empty());
    let block: Vec<_> = lines.take_while(|line| line.is_empty() || line.starts_with("    ")).collect();
    assert!(!block.is_empty(), "docs/{page} has no block below {name}");
    block.join("\n") + "\n"
}

/// The arguments of the command line that begins with these words.
pub(super) fn arguments(command: &str) -> Vec<String> {
    let text = page_of("drop-in.md");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(command));
    let line = line.unwrap_or_else(|| panic!("no `{command}` is documented"));
    assert!(line.contains(INSTALLED), "`{command}` is documented without {INSTALLED}");
    line.replace(INSTALLED, &runtime()).split_whitespace().map(str::to_owned).collect()
}

fn page_of(name: &str) -> String {
    let path = workspace().join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// The absolute path of the runtime under test.
pub(super) fn runtime() -> String {
    let program = Runtime::get().program();
    let found = if program.is_absolute() { Some(program.to_owned()) } else { crate::on_path(program) };
    let path = found.unwrap_or_else(|| panic!("{} is not on PATH", program.display()));
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// Writes it to a file.
pub(super) fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
}
