//! Messages by which callers tell errors apart: all kinds have the same exit code. They are runc's (libcontainer/error.go).

/// No container has that id.
pub const DOES_NOT_EXIST: &str = "container does not exist";

/// Another container has that id.
pub const ALREADY_EXISTS: &str = "container with given ID already exists";
