//! A container's directory, as somebody else may have left it.

use std::fs;

use ampoule::container::record::Record;
use ampoule::container::store::Store;
use interface::id::Id;

/// `state.json`, `init` and `config.json`, with zero bytes between them.
pub fn state(bytes: &[u8]) {
    let place = crate::guarded_dir::GuardedDir::new();
    let dir = place.dir().join("web");
    fs::create_dir(&dir).expect("make the container's directory");
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    for name in ["state.json", "init", "config.json"] {
        if let Some(part) = parts.next() {
            fs::write(dir.join(name), part).expect("write a file of the container");
        }
    }
    let store = Store::new(place.dir().to_owned());
    let container = store.open(&Id::new("web").expect("an id")).expect("the container");
    assert_eq!(store.ids().expect("a list").len(), 1);
    match container.record() {
        Ok(record) => describe(&record),
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
    match container.init() {
        Ok(Some(init)) => {
            fs::write(dir.join("init"), format!("{} {}\n", init.pid, init.start_time))
                .expect("write it again");
            assert_eq!(container.init().expect("read it again"), Some(init));
        }
        Ok(None) => {}
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
    match container.config() {
        Ok(config) => crate::config(&config),
        Err(e) => crate::one_line(&format!("{e:#}")),
    }
}

/// What was read is written as the same, and what others are told of it is JSON.
fn describe(record: &Record) {
    let again = serde_json::to_vec(record).expect("write the record");
    assert_eq!(serde_json::from_slice::<Record>(&again).expect("read it again"), *record);
    let told = [
        record.hook_state("running", 1),
        record.container_process_state("metadata", 1, None).into_bytes(),
        record.state("running", 1).to_string().into_bytes(),
    ];
    for text in told {
        let read: serde_json::Value = serde_json::from_slice(&text).expect("what is told is JSON");
        assert!(read["ociVersion"].is_string());
    }
}
