//! docker's containers, made by the runtime under test. Without networks; those are in engine_docker_network.rs.

use ampoule_tests::engines::{Client, Docker, NO_ENGINE, docker_compat, wait_for_slowly};
use ampoule_tests::{on_path, require};

#[test]
fn docker_runs_executes_shows_logs_pauses_and_stops() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    assert!(docker.call(&["info"]).ok().stdout.contains("Default Runtime: ampoule"));
    docker_compat::learns_how_it_ended(&docker);
    // Old versions of docker give 126, with runc as well.
    docker_compat::executes(&docker, &[126, 127]);
    assert_eq!(docker.inspect("web")["HostConfig"]["Runtime"], "ampoule");
    assert!(docker.call(&["top", "web"]).ok().stdout.contains("trap 'echo bye"));
    docker_compat::pauses_and_stops(&docker);
}

#[test]
fn docker_gives_terminals_and_checks_health() {
    require!(on_path("dockerd").is_some(), "docker", named NO_ENGINE);
    let docker = Docker::start();
    docker_compat::gives_a_terminal(&docker);
    checks_health(&docker);
}

fn checks_health(docker: &Docker) {
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries", "1"];
    docker.detached("web", &check, &["sleep", "1000"]);
    let health = || docker.inspect("web")["State"]["Health"]["Status"].take();
    wait_for_slowly("an ill container", || health() == "unhealthy");
    docker.call(&["exec", "web", "touch", "/tmp/well"]).ok();
    wait_for_slowly("a well container", || health() == "healthy");
}
