//! What takes a systemd on cgroup v2: its cgroup driver.

mod systemd;
mod systemd_refused;
