//! The built binary from the outside: what it prints and how it exits. Nothing here needs privileges.
#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use std::path::Path;
use std::process::{Command, Output};

fn kovar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kovar"))
        .args(arguments)
        .env_remove("KOVAR_LOG")
        .env("KOVAR_TEST_TOKEN", "s3cr3t-of-the-environment")
        .output()
        .expect("kovar starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn file(directory: &Path, content: &str) -> String {
    let path = directory.join("kovar.yaml");
    std::fs::write(&path, content).expect("write");
    path.display().to_string()
}

#[test]
fn check_prints_every_error_with_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file(directory.path(), "profiler:\n  rate_hz: 0\n  kernal: true\nui:\n  listen: here\n");
    let output = kovar(&["check", "--config", &path]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "{path}:2:12: `profiler.rate_hz` must be from 1 to 1000, it is 0\n\
             {path}:3:3: unknown setting `profiler.kernal`; did you mean `kernel`?\n\
             {path}:5:11: `ui.listen`: must be an IP address and a port, as in `0.0.0.0:12345`\n\
             3 errors\n"
        )
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn check_is_content_with_a_good_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path =
        file(directory.path(), "node: {name: n1}\ndestinations: {pyroscope: [{url: 'http://p:4040'}]}\n");
    let output = kovar(&["check", "--config", &path]);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), format!("{path}: good (node n1, destinations: 1)\n"));
}

#[test]
fn config_shows_defaults_and_hides_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    let content = "destinations:\n  pyroscope:\n    - url: http://p:4040\n      bearer_token: ${KOVAR_TEST_TOKEN}\n\
                   \x20     headers: {X-Key: another-secret}\n";
    let output = kovar(&["config", "--config", &file(directory.path(), content)]);
    assert!(output.status.success());
    let shown = text(&output.stdout);
    assert!(shown.contains("rate_hz: 97") && shown.contains("bearer_token: ***"), "{shown}");
    assert!(!shown.contains("s3cr3t") && !shown.contains("another-secret"), "{shown}");
}

#[test]
fn config_can_print_the_reference() {
    let output = kovar(&["config", "--reference"]);
    let page = include_str!("../../../docs/reference.md");
    assert_eq!(text(&output.stdout), page);
}

#[test]
fn a_configuration_that_is_wrong_stops_run_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = kovar(&["run", "--config", &file(directory.path(), "nodes: {}\n")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `node`?"));
    let output = kovar(&["run", "--config", "/nonexistent.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("/nonexistent.yaml: cannot be read"));
}

#[test]
fn an_unknown_kind_of_output_names_the_three() {
    let output = kovar(&["profile", "--duration", "1s", "--output", "out.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("out.png: the name of the output must end in .pb.gz, .folded or .svg")
    );
}

#[test]
fn a_process_that_does_not_exist_is_named() {
    let output = kovar(&["profile", "--pid", "4194303", "--output", "out.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no process 4194303"));
}

#[test]
fn each_command_has_help_with_an_example_and_a_wrong_option_exits_2() {
    for command in ["run", "profile", "check", "doctor", "config"] {
        let output = kovar(&[command, "--help"]);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("Example: kovar"), "{command}");
    }
    assert_eq!(kovar(&["run", "--nonsense"]).status.code(), Some(2));
    assert_eq!(kovar(&["--version"]).status.code(), Some(0));
}
