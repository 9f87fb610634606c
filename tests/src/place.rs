//! Where the tests run.

/// The place's name, from `AMPOULE_PLACE`: one of the test machine's (`tests/vm/places`), or `host`.
pub fn place() -> String {
    std::env::var("AMPOULE_PLACE").unwrap_or_else(|_| "host".into())
}

/// The runtime's flags before the verb in this place: with systemd's cgroup driver, or without.
pub(crate) fn engine_flags() -> &'static [&'static str] {
    match place().as_str() {
        // An ordinary user has no other way to a cgroup of their own.
        "v2-systemd" | "v2-user" => &["--systemd-cgroup"],
        _ => &[],
    }
}
