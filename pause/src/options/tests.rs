use super::*;
use proptest::prelude::*;

fn read(line: &[&str]) -> Request {
    parse(line.iter().map(|word| word.as_bytes()), &mut Options::default())
}

fn run(line: &[&str]) -> Options {
    let mut options = Options::default();
    let request = parse(line.iter().map(|word| word.as_bytes()), &mut options);
    assert_eq!(request, Request::Run, "{line:?}");
    options
}

/// What is wrong with this command line, in pause's words.
fn mistake(line: &[&str]) -> String {
    let mut options = Options::default();
    match parse(line.iter().map(|word| word.as_bytes()), &mut options) {
        Request::Mistake(mistake) => mistake.text().to_str().unwrap().to_owned() + line[options.word],
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn without_a_command_it_pauses() {
    for line in [&["pause"][..], &["/pause"], &[], &["pause", "--"], &["pause", "-P"], &["catatonit", "-P"]] {
        assert_eq!(read(line), Request::Pause, "{line:?}");
    }
}

#[test]
fn an_init_by_name_needs_a_command() {
    for name in ["tini", "docker-init", "catatonit", "/usr/bin/tini", "/sbin/docker-init"] {
        assert_eq!(read(&[name]), Request::Mistake(Mistake::Command), "{name}");
        assert_eq!(read(&[name, "--"]), Request::Mistake(Mistake::Command), "{name}");
    }
    assert_eq!(read(&["pause", "-s"]), Request::Mistake(Mistake::Command));
}

#[test]
fn v_alone_is_the_version_and_with_a_command_verbosity() {
    for line in [["pause", "-v"], ["pause", "-V"], ["tini", "--version"], ["catatonit", "-V"]] {
        assert_eq!(read(&line), Request::Version, "{line:?}");
    }
    assert_eq!(run(&["pause", "-v", "--", "true"]).verbosity, 2);
    assert_eq!(run(&["tini", "-vvv", "true"]).verbosity, 4);
    assert_eq!(run(&["catatonit", "true"]).verbosity, 0);
}

#[test]
fn flags_end_at_the_command() {
    assert_eq!(run(&["pause", "ls", "-l"]).word, 1);
    assert_eq!(run(&["pause", "--", "ls"]).word, 2);
    assert_eq!(run(&["pause", "-s", "--", "-g"]), Options { word: 3, ..run(&["pause", "-s", "x"]) });
    assert_eq!(run(&["pause", "-"]).word, 1);
    assert!(!run(&["pause", "x", "-g"]).group);
}

#[test]
fn a_value_stands_in_its_word_or_in_the_next() {
    let wanted = Options {
        word: 5,
        subreaper: true,
        group: true,
        warn: true,
        verbosity: 1,
        parent_death: signals::TERM,
        grace: Some(7),
        ..Options::default()
    };
    assert_eq!(run(&["pause", "-swgp", "SIGTERM", "--grace", "7", "x"]), wanted);
    assert_eq!(run(&["pause", "-gwspTERM", "--grace=7", "--", "x"]), Options { word: 4, ..wanted });
}

#[test]
fn remapped_codes_end_as_0_and_others_as_they_are() {
    let options = run(&["tini", "-e", "143", "-e0", "-e127", "-e", "128", "-e", "255", "x"]);
    for code in 0..=255 {
        let remapped = matches!(code, 0 | 127 | 128 | 143 | 255);
        assert_eq!(options.exit_code(code), if remapped { 0 } else { code });
    }
    assert_eq!(run(&["tini", "x"]).exit_code(143), 143);
}

#[test]
fn mistakes_name_the_word() {
    let cases: [(&[&str], &str); 15] = [
        (&["pause", "-x"], "unknown flag: -x"),
        (&["pause", "-sx", "y"], "unknown flag: -sx"),
        (&["pause", "--nonsense"], "unknown flag: --nonsense"),
        (&["pause", "--version=1"], "unknown flag: --version=1"),
        (&["pause", "---", "x"], "unknown flag: ---"),
        (&["pause", "--=", "x"], "unknown flag: --="),
        (&["pause", "--graceful", "x"], "unknown flag: --graceful"),
        (&["pause", "-p"], "not a signal: -p"),
        (&["pause", "--grace"], "not a number of seconds: --grace"),
        (&["pause", "-p", "FOO", "x"], "not a signal: FOO"),
        (&["pause", "-e", "256", "x"], "not an exit code: 256"),
        (&["pause", "-e-1", "x"], "not an exit code: -e-1"),
        (&["pause", "--grace", "soon", "x"], "not a number of seconds: soon"),
        (&["pause", "--grace=", "x"], "not a number of seconds: --grace="),
        (&["tini", "-s"], "no command: -s"),
    ];
    for (line, text) in cases {
        assert_eq!(mistake(line), text, "{line:?}");
    }
}

#[test]
fn the_environment_wins_over_the_flags() {
    let mut options = run(&["pause", "-vv", "x"]);
    options.read_environment(|name| (name == b"TINI_VERBOSITY").then_some(b"2".as_slice()));
    assert_eq!((options.verbosity, options.subreaper, options.group), (2, false, false));
    options.read_environment(|_| Some(b""));
    assert_eq!((options.verbosity, options.subreaper, options.group), (0, true, true));
}

proptest! {
    /// No command line makes it panic or loop, and a command is a word that is there.
    #[test]
    fn any_bytes_are_a_request_or_a_mistake(
        words in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                "(pause|tini|catatonit|-[sgwvpehlLPV=-]{0,4}|--(grace|version|help)?(=[0-9]{0,12})?|TERM|[0-9]{1,4})"
                    .prop_map(String::into_bytes),
            ],
            0..8,
        ),
    ) {
        let mut options = Options::default();
        let request = parse(words.iter().map(Vec::as_slice), &mut options);
        prop_assert!(options.word < words.len().max(1));
        prop_assert!(request != Request::Run || options.word > 0);
        prop_assert!(options.parent_death <= signals::LAST);
        for code in 0..=255 {
            prop_assert!([0, code].contains(&options.exit_code(code)));
        }
    }
}
