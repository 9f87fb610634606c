//! buildah's containers, made by the runtime under test.

use ampoule_tests::engines::{Buildah, NO_ENGINE};
use ampoule_tests::{Scratch, on_path, require};
use std::fs;

#[test]
fn buildah_runs_commands_and_builds_images() {
    require!(on_path("buildah").is_some(), "buildah", named NO_ENGINE);
    let buildah = Buildah::new();
    runs_a_command(&buildah);
    builds_an_image(&buildah);
}

fn runs_a_command(buildah: &Buildah) {
    let outcome = buildah.run(&["--network", "none"], &["sh", "-c", "echo out; touch /made; exit 7"]);
    assert_eq!((outcome.code, &*outcome.stdout), (7, "out\n"), "{outcome}");
    let outcome =
        buildah.run(&["--network", "none", "--user", "1000"], &["sh", "-c", "ls /made; id -u"]).ok();
    assert_eq!(outcome.stdout, "/made\n1000\n");
    let outcome = buildah.run(&[], &["nosuch"]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.to_string().contains("executable file not found in $PATH"), "{outcome}");
}

fn builds_an_image(buildah: &Buildah) {
    let shared = Scratch::new();
    let file = "FROM localhost/box:1\nRUN echo one >/file\nRUN --mount=type=tmpfs,target=/own echo $(cat /file) two >/file\n\
        RUN cp /file /shared/file\n";
    let volume = format!("{}:/shared", shared.path().display());
    buildah.build(file, &["--network", "none", "--volume", &volume, "--tag", "made"]).ok();
    assert_eq!(fs::read_to_string(shared.path().join("file")).unwrap(), "one two\n");
    let failed = buildah.build("FROM localhost/box:1\nRUN exit 7\n", &["--network", "none"]);
    assert_ne!(failed.code, 0);
    assert!(failed.stderr.contains("exit status 7"), "{failed}");
}
