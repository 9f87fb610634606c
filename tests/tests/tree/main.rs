//! What this source tree says of itself, and its programs of themselves.

mod architecture;
mod binary;
mod conformance;
mod errors;
mod manual;
mod places;
mod plan_and_check;
mod samples;
