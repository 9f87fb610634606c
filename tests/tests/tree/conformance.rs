//! `docs/conformance.md` is what it says: every promise has a row, and every row a test that runs where it says.

use crate::manual::flags;
use ampoule_tests::conformance::{Row, rows};
use ampoule_tests::places::{List, Tier, Title};
use ampoule_tests::{Runtime, ampoule_only, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WHY: &str = "the table is ampoule's";

fn section(name: &str) -> Vec<Row> {
    let found: Vec<_> = rows().into_iter().filter(|row| row.section == name).collect();
    assert!(found.len() > 10, "what has become of the section {name}?");
    found
}

fn keys(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter().flat_map(|row| &row.keys).map(String::as_str).collect()
}

/// Fails with what is on one side only.
#[track_caller]
fn same(promised: &BTreeSet<&str>, rows: &BTreeSet<&str>) {
    let lacking: Vec<_> = promised.difference(rows).collect();
    assert_eq!(lacking, [&""; 0], "these have no row");
    let unknown: Vec<_> = rows.difference(promised).collect();
    assert_eq!(unknown, [&""; 0], "these rows are about nothing that there is");
}

/// The file of a row's test, and the test's name. One that stands in no path is an integration test's.
fn test(row: &Row) -> (PathBuf, &str) {
    let (file, name) = row.test.split_once("::").unwrap_or_else(|| panic!("no FILE::NAME: {row:?}"));
    let path = if file.contains('/') { file.into() } else { integration(file) };
    (workspace().join(path), name)
}

/// The path of a file of integration tests, in one of the programs.
fn integration(name: &str) -> PathBuf {
    let programs = fs::read_dir(workspace().join("tests/tests")).unwrap().flatten();
    let mut files = programs.map(|program| program.path().join(name).with_extension("rs"));
    files.find(|path| path.exists()).unwrap_or_else(|| panic!("no program has a {name}.rs"))
}

/// Fails unless the file has a test of that name.
#[track_caller]
fn must_be_a_test(path: &Path, name: &str, why: &str) {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{why}: {}: {e}", path.display()));
    let (before, _) =
        text.split_once(&format!("fn {name}(")).unwrap_or_else(|| panic!("no such test: {why}"));
    let attributes = before.rsplit("\n\n").next().unwrap_or_default();
    assert!(attributes.contains("#[test]"), "{name} is no test: {why}");
}

#[test]
fn every_measure_in_security_md_has_a_test_that_is_there() {
    let text = fs::read_to_string(workspace().join("SECURITY.md")).expect("read SECURITY.md");
    let (_, table) = text.split_once("| --- | --- | --- | --- |\n").expect("find the table of measures");
    assert!(table.lines().count() > 10, "what has become of the table?");
    for line in table.lines() {
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let tests: Vec<_> = last.split(',').map(|test| test.trim().trim_matches('`')).collect();
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("no FILE::NAME: {line}"));
            must_be_a_test(&integration(file), name, line);
        }
    }
}

#[test]
fn every_row_has_a_test_that_is_there() {
    for row in rows() {
        let (path, name) = test(&row);
        must_be_a_test(&path, name, &format!("{row:?}"));
    }
}

#[test]
fn every_place_that_a_row_names_is_one_where_its_test_runs() {
    let places = List::read().places;
    for row in rows() {
        let (path, name) = test(&row);
        let [file, program] = [path.file_stem(), path.parent().and_then(Path::file_name)]
            .map(|name| name.unwrap().to_str().unwrap());
        let integration = path.starts_with(workspace().join("tests/tests"));
        for place in &row.places {
            let known = places.iter().find(|known| known.name == *place);
            let runs = match place.as_str() {
                "unit" => !integration,
                _ => integration && known.is_some_and(|p| p.has(Tier::All, Title { program, file, name })),
            };
            assert!(runs, "{file}::{name} does not run in {place:?}: {row:?}");
        }
    }
}

fn help(words: &[&str]) -> String {
    let output = Command::new(Runtime::get().program()).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{words:?} --help");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_verb_and_every_flag_has_a_row() {
    ampoule_only!(WHY);
    let all = help(&[]);
    let mut promised: BTreeSet<String> = flags(&all).into_iter().chain(["--help".into()]).collect();
    let lines =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for verb in lines.filter_map(|line| line.split_whitespace().next()) {
        let flags = flags(&help(&[verb])).into_iter().filter(|flag| flag != "--help");
        promised.extend(flags.map(|flag| format!("{verb} {flag}")));
        promised.insert(verb.to_owned());
    }
    assert!(promised.len() > 80, "{promised:?}");
    same(&promised.iter().map(String::as_str).collect(), &keys(&section("Command line")));
}

/// The fields of the structs of `config.json`: name in the document, type.
fn structs() -> BTreeMap<String, Vec<(String, String)>> {
    let files =
        ["spec.rs", "spec/scheduling.rs", "spec/seccomp.rs"].map(|f| workspace().join("runtime/src").join(f));
    let mut structs = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let blocks = text.split("document! {\n").skip(1).filter_map(|rest| rest.split_once("\n}\n"));
        for (block, _) in blocks {
            let lines = block.lines().filter(|line| !line.trim_start().starts_with("///"));
            let code: String = lines.collect::<Vec<_>>().join(" ");
            for part in code.split_inclusive('}') {
                let Some((name, fields)) = part.trim().trim_end_matches('}').split_once('{') else {
                    continue;
                };
                structs.insert(name.trim().to_owned(), fields_of(fields));
            }
        }
    }
    assert!(structs.len() > 30 && structs.contains_key("Spec"), "{structs:?}");
    structs
}

fn fields_of(text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for declared in
        text.split(", ").map(|part| part.trim().trim_end_matches(',')).filter(|part| !part.is_empty())
    {
        let (attribute, field) = declared.rsplit_once(")] ").unwrap_or(("", declared));
        let Some((name, kind)) = field.split_once(": ") else {
            // `Map<'a, Str<'a>>` has a comma of its own.
            let (_, last): &mut (_, String) = fields.last_mut().expect("a field before");
            *last += &format!(", {field}");
            continue;
        };
        let renamed =
            attribute.split_once("rename = \"").map(|(_, rest)| rest.trim_end_matches('"').to_owned());
        fields.push((renamed.unwrap_or_else(|| camel_case(name)), kind.to_owned()));
    }
    fields
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// The JSON paths of all values below a struct.
fn paths(structs: &BTreeMap<String, Vec<(String, String)>>, of: &str, prefix: &str) -> Vec<String> {
    let path = |(name, kind): &(String, String)| {
        let suffix = if kind.contains("Map<") {
            ".*"
        } else if kind.contains("Vec<") {
            "[]"
        } else {
            ""
        };
        let inner = kind.replace("Option<", "").replace("Vec<", "").replace("Map<'a, ", "");
        let inner = inner.split('<').next().unwrap_or_default().trim().trim_end_matches('>').to_owned();
        let path = format!("{prefix}{name}{suffix}");
        if structs.contains_key(&inner) { paths(structs, &inner, &(path + ".")) } else { vec![path] }
    };
    structs[of].iter().flat_map(path).collect()
}

#[test]
fn every_property_of_the_document_has_a_row() {
    let paths = paths(&structs(), "Spec", "");
    for known in ["mounts[].options[]", "linux.resources.rdma.*.hcaHandles", "process.execCPUAffinity.final"]
    {
        assert!(paths.iter().any(|path| path == known), "{known} of {paths:#?}");
    }
    assert!(paths.len() > 150, "{paths:#?}");
    same(&paths.iter().map(String::as_str).collect(), &keys(&section("config.json")));
}

/// The paths of a document's values; what is in a list is the business of the test that goes through it.
fn leaves(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let below = |(key, value): (&String, &Value)| match path {
                "" => leaves(value, key),
                // A key that is data.
                "annotations" => vec![path.to_owned()],
                _ => leaves(value, &format!("{path}.{key}")),
            };
            map.iter().flat_map(below).collect()
        }
        _ => vec![path.to_owned()],
    }
}

#[test]
fn every_entry_of_features_has_a_row() {
    ampoule_only!(WHY);
    let output = Command::new(Runtime::get().program()).arg("features").output().unwrap();
    let leaves = leaves(&serde_json::from_slice(&output.stdout).unwrap(), "");
    same(&leaves.iter().map(String::as_str).collect(), &keys(&section("features")));
}
