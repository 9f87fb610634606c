//! What containerd says when it starts a shim: any command line, a zero byte, any stdin. Both protocols begin with a
//! text, so what is taken for parameters must repeat the flags.

#![no_main]
#![allow(dead_code)]

#[path = "../../../shim/src/bootstrap.rs"]
mod bootstrap;
#[path = "../../../shim/src/flags.rs"]
mod flags;
#[path = "../../../shim/src/options.rs"]
mod options;

use bootstrap::Told;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (line, stdin) = bytes.split_at(cut);
    let stdin = stdin.get(1..).unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let words = line.split(' ').filter(|word| !word.is_empty()).map(Into::into);
    let Ok(mut flags) = flags::Flags::parse(words) else { return };
    // Half of the time the parameters' own, which no fuzzer would guess.
    if let (Ok(params), true) = (BootstrapParams::parse_from_bytes(stdin), line.len() % 2 == 0) {
        (flags.id, flags.namespace) = (params.instance_id, params.namespace);
    }
    for newest in ["2", "3"] {
        let variable = |name: &str| Some(if name == "MAX_SHIM_VERSION" { newest } else { "/t" }.to_owned());
        let Ok(told) = Told::understand(stdin, &flags, variable) else { continue };
        let answer = told.answer("unix:///s").expect("an answer");
        let text = std::str::from_utf8(&answer).is_ok_and(|text| text.contains("unix:///s"));
        assert!(text || BootstrapResult::parse_from_bytes(&answer).is_ok_and(|it| it.address == "unix:///s"));
        let _ = options::read(told.options.as_ref());
    }
});
