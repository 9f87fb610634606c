//! podman's containers, made by the runtime under test: root's and, in the test machine, an ordinary user's.

use ampoule_tests::engines::{Client, NO_ENGINE, Podman, docker_compat};
use ampoule_tests::{on_path, require};

#[test]
fn podman_runs_executes_shows_logs_pauses_and_stops() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    let info = podman.call(&["info", "--format", "{{.Host.OCIRuntime.Name}}"]).ok();
    assert_eq!(info.stdout, "ampoule\n");
    docker_compat::learns_how_it_ended(&podman);
    docker_compat::executes(&podman, &[127]);
    assert_eq!(podman.inspect("web")["OCIRuntime"], "ampoule");
    docker_compat::pauses_and_stops(&podman);
}

#[test]
fn podman_gives_terminals_and_checks_health() {
    require!(on_path("podman").is_some(), "podman", named NO_ENGINE);
    let podman = Podman::new();
    docker_compat::gives_a_terminal(&podman);
    checks_health(&podman);
}

fn checks_health(podman: &Podman) {
    // Without systemd nobody calls it but the test.
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable"];
    podman.detached_offline("web", &check, &["sleep", "1000"]);
    let outcome = podman.call(&["healthcheck", "run", "web"]);
    assert_eq!(outcome.code, 1, "{outcome}");
    podman.call(&["exec", "web", "touch", "/tmp/well"]).ok();
    podman.call(&["healthcheck", "run", "web"]).ok();
    let state = &podman.inspect("web")["State"];
    assert!(state.to_string().contains("\"healthy\""), "{state}");
}
