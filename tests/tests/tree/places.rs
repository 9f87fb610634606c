//! `tests/vm/places` means what it says: a word for tests that there are, and every test somewhere.

use ampoule_tests::places::{List, Tier, Title};
use ampoule_tests::workspace;
use std::fs;
use std::path::Path;

/// Program, file and name of every test, as the sources have them.
fn tests() -> Vec<[String; 3]> {
    let entries =
        |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut found = Vec::new();
    for program in entries(&workspace().join("tests/tests")) {
        for path in entries(&program) {
            let text = fs::read_to_string(&path).unwrap();
            for after in text.split("\n#[test]\n").skip(1) {
                let (_, rest) = after.split_once("fn ").unwrap();
                let [program, file] =
                    [&program, &path].map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned());
                found.push([program, file, rest.split_once('(').unwrap().0.to_owned()]);
            }
        }
    }
    assert!(found.len() > 600, "where have the tests gone?");
    found
}

#[test]
fn every_word_means_a_test() {
    let tests = tests();
    let titles: Vec<_> = tests.iter().map(|[program, file, name]| Title { program, file, name }).collect();
    assert_eq!(List::read().idle_words(&titles), [""; 0]);
}

#[test]
fn every_test_runs_somewhere_and_every_place_has_some_in_each_tier() {
    let (tests, list) = (tests(), List::read());
    for tier in [Tier::Quick, Tier::All] {
        let has = |place: &ampoule_tests::places::Place, [program, file, name]: &[String; 3]| {
            place.has(tier, Title { program, file, name })
        };
        let nowhere: Vec<_> =
            tests.iter().filter(|test| !list.places.iter().any(|place| has(place, test))).collect();
        assert!(nowhere.is_empty(), "{tier:?}: {nowhere:?}");
        for place in &list.places {
            assert!(tests.iter().any(|test| has(place, test)), "{tier:?}: {} has none", place.name);
        }
    }
}
