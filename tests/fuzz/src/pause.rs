//! pause's command line and environment.

use ampoule_pause::options::{Options, Request, parse};

/// Words are split at null bytes, as the kernel's are.
pub fn pause_options(bytes: &[u8]) {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    let mut options = Options::default();
    let request = parse(words.iter().copied(), &mut options);
    assert!(options.word < words.len());
    if request == Request::Run {
        assert!(options.word > 0);
    }
    options
        .read_environment(|name| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(b"=")));
    for code in 0..=255 {
        assert!([0, code].contains(&options.exit_code(code)));
    }
}
