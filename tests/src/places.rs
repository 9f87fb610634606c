//! The list of places, `tests/vm/places`: where the integration tests run, and which of them.

use crate::programs::workspace;

/// The place's name, from `AMPOULE_PLACE`: one of the test machine's (`tests/vm/places`), or `host`.
pub fn place() -> String {
    std::env::var("AMPOULE_PLACE").unwrap_or_else(|_| "host".into())
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// What every change must pass.
    Quick,
    /// Everything, before a release and every night.
    All,
}

/// The whole list.
#[derive(Debug, Default)]
pub struct List {
    /// Every place, in its order.
    pub places: Vec<Place>,
    alone: Selection,
}

/// One place.
#[derive(Debug)]
pub struct Place {
    /// Its name, as in `v2-user`.
    pub name: String,
    /// What has to be booted for it; `host` is this machine.
    pub machine: String,
    /// Who runs the tests there.
    pub user: String,
    runtimes: Vec<String>,
    quick: Selection,
    all: Selection,
}

/// A test, as it is chosen by.
#[derive(Debug, Clone, Copy)]
pub struct Title<'a> {
    /// Its program: `any`.
    pub program: &'a str,
    /// Its file: `exec`.
    pub file: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Place {
    /// Whether a runtime is tested there.
    pub fn tests_runtime(&self, name: &str) -> bool {
        self.runtimes.iter().any(|runtime| runtime == "*" || runtime == name)
    }

    /// Whether a test runs there.
    pub fn has(&self, tier: Tier, test: Title<'_>) -> bool {
        match tier {
            Tier::Quick => self.quick.has(test),
            Tier::All => self.all.has(test),
        }
    }
}

impl List {
    /// Reads it. Panics when that fails.
    pub fn read() -> Self {
        let path = workspace().join("tests/vm/places");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        parse(&text)
    }

    /// The words that mean none of these tests, each with where it stands.
    pub fn idle_words(&self, tests: &[Title<'_>]) -> Vec<String> {
        let of_places = self.places.iter().flat_map(|place| {
            [(format!("{} quick", place.name), &place.quick), (format!("{} all", place.name), &place.all)]
        });
        let all = of_places.chain([("alone".to_owned(), &self.alone)]);
        all.flat_map(|(at, words)| {
            let is_idle =
                |word: &&String| !tests.iter().any(|test| meant_by(word.trim_start_matches('-'), *test));
            words.0.iter().filter(is_idle).map(|word| format!("{at}: {word}")).collect::<Vec<_>>()
        })
        .collect()
    }

    /// Whether a test runs when no other does.
    pub fn is_alone(&self, test: Title<'_>) -> bool {
        self.alone.has(test)
    }
}

/// Panics with the line that says nothing.
fn parse(text: &str) -> List {
    let List { mut places, mut alone } = List::default();
    let mut tier = None;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match (&words[..], line.starts_with(' ')) {
            ([first, rest @ ..], false) if first == "alone" => alone.0.extend_from_slice(rest),
            ([name, machine, user, runtimes @ ..], false) if !runtimes.is_empty() => {
                let [name, machine, user] = [name, machine, user].map(String::clone);
                let (runtimes, quick, all) = (runtimes.to_vec(), Selection::default(), Selection::default());
                places.push(Place { name, machine, user, runtimes, quick, all });
                tier = None;
            }
            ([first, rest @ ..], true) => {
                // A line without one of these words goes on with the tier of the line above.
                let rest = match first.as_str() {
                    "quick" => (tier = Some(Tier::Quick), rest).1,
                    "all" => (tier = Some(Tier::All), rest).1,
                    _ => &words[..],
                };
                match (places.last_mut(), tier) {
                    (Some(place), Some(Tier::Quick)) => place.quick.0.extend_from_slice(rest),
                    (Some(place), Some(Tier::All)) => place.all.0.extend_from_slice(rest),
                    _ => panic!("tests/vm/places: a line of no tier: {line}"),
                }
            }
            _ => panic!("tests/vm/places: no place, machine, user and runtimes: {line}"),
        }
    }
    List { places, alone }
}

/// Words that add or take away tests, from left to right.
#[derive(Debug, Default)]
struct Selection(Vec<String>);

impl Selection {
    fn has(&self, test: Title<'_>) -> bool {
        let decides = |word: &&String| meant_by(word.trim_start_matches('-'), test);
        self.0.iter().rev().find(decides).is_some_and(|word| !word.starts_with('-'))
    }
}

/// Whether `PROGRAM/`, `FILE` or `FILE::NAME` means a test. A star at a word's end stands for anything.
fn meant_by(word: &str, test: Title<'_>) -> bool {
    let same = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    };
    match (word.strip_suffix('/'), word.split_once("::")) {
        (Some(program), _) => program == test.program,
        (None, Some((file, name))) => file == test.file && same(name, test.name),
        (None, None) => same(word, test.file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(words: &str, program: &str, file: &str, name: &str) -> bool {
        Selection(words.split(' ').map(str::to_owned).collect()).has(Title { program, file, name })
    }

    #[test]
    fn words_choose_programs_files_and_tests() {
        assert!(has("any/", "any", "exec", "a") && !has("any/", "cgroup", "events", "a"));
        assert!(has("exec", "any", "exec", "a") && !has("exec", "any", "exec_more", "a"));
        assert!(has("cgroup_*", "cgroup", "cgroup_v1", "a") && !has("cgroup_*", "cgroup", "events", "a"));
        assert!(has("exec::a_*", "any", "exec", "a_b") && !has("exec::a_*", "any", "exec", "b_a"));
    }

    #[test]
    fn the_last_word_that_means_a_test_decides() {
        assert!(!has("any/ -exec", "any", "exec", "a") && has("any/ -exec", "any", "mounts", "a"));
        assert!(has("any/ -exec exec::a", "any", "exec", "a"));
        assert!(!has("-exec any/ -exec", "any", "exec", "a") && has("-exec any/", "any", "exec", "a"));
    }

    #[test]
    fn a_list_goes_on_in_the_next_line() {
        let text = "# one\nalone a\nhere host root runc crun\n    quick a/ b\n    all c/\n    -d\n\nthere v2 user *\n";
        let list = parse(text);
        let [here, there] = &list.places[..] else { panic!("two places: {list:?}") };
        assert_eq!(
            (&here.quick.0[..], &here.all.0[..]),
            (&["a/", "b"].map(String::from)[..], &["c/", "-d"].map(String::from)[..])
        );
        assert!(here.tests_runtime("crun") && !here.tests_runtime("youki") && there.tests_runtime("youki"));
        assert_eq!(
            (there.name.as_str(), there.machine.as_str(), there.user.as_str()),
            ("there", "v2", "user")
        );
        let test = Title { program: "b", file: "a", name: "c" };
        assert!(list.is_alone(test));
        assert_eq!(
            list.idle_words(&[test]),
            ["here quick: a/", "here quick: b", "here all: c/", "here all: -d"]
        );
    }

    #[test]
    #[should_panic(expected = "of no tier:     quik a/")]
    fn a_tier_is_quick_or_all() {
        parse("here host root *\n    all a/\nthere v2 root *\n    quik a/\n");
    }

    #[test]
    #[should_panic(expected = "no place, machine, user and runtimes: alon b")]
    fn a_place_has_runtimes() {
        parse("alon b\n");
    }
}
