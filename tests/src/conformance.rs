//! The table of `docs/conformance.md`: what is promised, the test that proves it, and where that runs.

use crate::programs::workspace;

/// One line of it.
#[derive(Debug)]
pub struct Row {
    /// The heading that it stands under.
    pub section: String,
    /// What is promised: the first thing set in code. `a.{b,c}` stands for two.
    pub keys: Vec<String>,
    /// The test, `FILE::NAME`.
    pub test: String,
    /// The places: those of `tests/vm/places`, or `unit` for a test that needs no root.
    pub places: Vec<String>,
}

/// Every line. Panics when the file has one that is none.
pub fn rows() -> Vec<Row> {
    let path = workspace().join("docs/conformance.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    let (mut rows, mut section) = (Vec::new(), String::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        }
        let Some(line) = line.strip_prefix("| `") else { continue };
        let cells: Vec<&str> = line.trim_end_matches('|').split(" | ").map(str::trim).collect();
        let [what, test, places] = cells[..] else { panic!("not three cells: {line}") };
        let (key, _) = what.split_once('`').unwrap_or_else(|| panic!("nothing is set in code: {line}"));
        let places = places.split(", ").map(str::to_owned).collect();
        rows.push(Row {
            section: section.clone(),
            keys: expand(key),
            test: test.trim_matches('`').into(),
            places,
        });
    }
    rows
}

/// `a.{b,c}` as `a.b` and `a.c`.
fn expand(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let (among, after) = rest.split_once('}').unwrap_or_else(|| panic!("an open brace: {text}"));
    let ends = expand(after);
    let one = |word: &str| ends.iter().map(|end| format!("{before}{word}{end}")).collect::<Vec<_>>();
    among.split(',').flat_map(one).collect()
}

/// Whether the table says that this test runs in this place.
pub(crate) fn claims(test: &str, place: &str) -> bool {
    rows().iter().any(|row| row.test == test && row.places.iter().any(|p| p == place))
}
