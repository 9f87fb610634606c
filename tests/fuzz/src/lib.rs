//! Whatever reads bytes of others, as functions of those bytes: they panic when something does not hold that must hold
//! whatever the bytes are. A fuzzer looks for such bytes; `tests/corpora.rs` replays those that it found worth keeping.

// Included files bring their unit tests along, which run where they belong.
#![cfg(not(test))]

mod documents;
mod filter;
mod guarded_dir;
mod image;
pub mod json;
mod pause;
mod shim;
mod state;
mod wires;

// Where included files look for each other.
use filter::interpreter;
use shim::flags;

pub use documents::{config, process, resources};
pub use filter::seccomp;
pub use image::{image, layer, users};
pub use pause::pause_options;
pub use shim::{shim_calls, shim_start};
pub use state::state;
pub use wires::{kernel_files, wires, words};

/// What a person reads of a failure.
fn one_line(text: &str) {
    let line = interface::line::one_line(text);
    assert!(!line.trim().is_empty() && !line.contains(char::is_control), "{text:?} is no line");
}

/// Runs a target over files, without any fuzzer: to look at what one has found.
pub fn replay(target: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        println!("{}", path.display());
        target(&std::fs::read(&path).expect("read the file"));
    }
}

/// The program of a target: for libFuzzer where cargo-fuzz builds it, otherwise to replay files.
#[macro_export]
macro_rules! target {
    ($name:ident $($json:ident)?) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::$name(bytes));
        $(#[cfg(fuzzing)]
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max: usize, seed: u32| {
            $crate::$json::mutate(data, size, max, seed, libfuzzer_sys::fuzzer_mutate)
        });)?
        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay($crate::$name);
        }
    };
}
