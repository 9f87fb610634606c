//! What fuzzers have found worth keeping, replayed without any: on stable Rust, in a second.

use std::fs;
use std::path::Path;

/// A seed that is any longer tells nothing that a shorter one does not.
const MAX_LENGTH: usize = 4096;

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut seen = 0;
    for entry in fs::read_dir(&dir).expect("every target has a corpus") {
        let path = entry.expect("an entry of the corpus").path();
        let bytes = fs::read(&path).expect("read a seed");
        assert!(bytes.len() <= MAX_LENGTH, "{}: {} bytes", path.display(), bytes.len());
        // Shown when it fails.
        println!("{}", path.display());
        target(&bytes);
        seen += 1;
    }
    assert!(seen > 0, "{} is empty", dir.display());
}

/// A test for each target, so that one that is not replayed does not build.
macro_rules! replayed {
    ($($target:ident)*) => { $(
        #[test]
        fn $target() {
            replay(stringify!($target), ampoule_fuzz::$target);
        }
    )* };
}

replayed! {
    config image kernel_files layer pause_options process resources seccomp shim_calls shim_start state users wires words
}
