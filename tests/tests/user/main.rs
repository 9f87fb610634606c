//! What an ordinary user gets, and user namespaces.

mod delegated;
mod rootless;
mod user_namespaces;
