//! From images to bundles and back.

mod pause_image;
mod unpack;
mod unpack_debian;
mod unpack_refused;

/// Runs a program that must succeed; what it prints.
#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    ampoule_tests::Outcome::of(std::process::Command::new(program).args(args)).ok().stdout
}
