//! Where the tests run.

/// The place's name, from `AMPOULE_PLACE`: one of the test machine's (`tests/vm/places`), or `host`.
pub fn place() -> String {
    std::env::var("AMPOULE_PLACE").unwrap_or_else(|_| "host".into())
}
