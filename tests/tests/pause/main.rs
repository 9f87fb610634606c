//! The PID 1 of pods and containers, and its peers.

mod init;
mod pause;
mod pause_load;
