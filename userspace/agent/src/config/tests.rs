//! Every class of configuration error with its line, and what must never be printed.

use super::Config;
use proptest::prelude::*;
use std::path::Path;
use transport::{Auth, Credential, Secret};

fn environment(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "from-the-environment".to_owned())
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse("kovar.yaml", text, &environment).map_err(|problems| problems.to_string())
}

fn error(text: &str) -> String {
    parse(text).expect_err("an error")
}

#[test]
fn nothing_at_all_is_a_configuration() {
    for text in ["", "# only a comment\n", "profiler:\n", "{}"] {
        let config = parse(text).expect(text);
        assert_eq!(config.profiler.expect("enabled").rate_hz, 97);
        assert_eq!(config.listen.to_string(), "0.0.0.0:12345");
        assert!(!config.node.is_empty() && config.pyroscope.is_empty());
        assert!(!config.storage.path_is_configured);
    }
}

#[test]
fn all_errors_come_at_once_each_with_its_line() {
    let text = "\
node: {name: a}
profilr:
  rate_hz: 1
profiler:
  rate_hz: 5000
  kernel: perhaps
  drain_interval: 1
  enabled: [true]
storage:
  path: relative
  max_bytes: 1KiB
destinations:
  pyroscope:
    - url: pyroscope:4040
    - headers: 3
ui:
  listen: localhost
";
    assert_eq!(
        error(text),
        "\
kovar.yaml:2:1: unknown setting `profilr`; did you mean `profiler`?
kovar.yaml:5:12: `profiler.rate_hz` must be from 1 to 1000, it is 5000
kovar.yaml:6:11: `profiler.kernel`: must be `true` or `false`
kovar.yaml:7:19: `profiler.drain_interval`: a duration is a whole number and a unit: ms, s, m, h or d, as in `15s`
kovar.yaml:8:12: `profiler.enabled` must be `true` or `false`, found a list
kovar.yaml:10:9: `storage.path`: must be an absolute path, starting with `/`
kovar.yaml:11:14: `storage.max_bytes` must be from 16MiB to 1TiB, it is 1KiB
kovar.yaml:14:12: `destinations.pyroscope[0].url`: an address starts with `http://` or `https://`, as in `http://pyroscope:4040`
kovar.yaml:15:7: `destinations.pyroscope[1].url` is missing; it has no default
kovar.yaml:15:16: `destinations.pyroscope[1].headers` must be a mapping of names to texts, found a single value
kovar.yaml:17:11: `ui.listen`: must be an IP address and a port, as in `0.0.0.0:12345`"
    );
}

#[test]
fn an_unknown_setting_gets_the_nearest_name_or_the_list() {
    assert!(
        error("profiler: {rate: 1}").contains("unknown setting `profiler.rate`; did you mean `rate_hz`?")
    );
    assert!(error("storage: {maxbytes: 1}").contains("did you mean `max_bytes`?"));
    assert!(error("queue: {zzz: 1}").contains("here are possible: max_bytes"));
}

#[test]
fn sections_and_lists_of_the_wrong_shape_are_named() {
    assert!(
        error("profiler: fast").contains("`profiler` must be a mapping of settings, found a single value")
    );
    assert!(error("- a").contains("the file must be a mapping of settings, found a list"));
    assert!(
        error("destinations: {pyroscope: {url: x}}")
            .contains("must be a list, each entry starting with `- `")
    );
}

#[test]
fn duplicates_are_errors() {
    assert!(error("node: {name: a}\nnode: {name: b}\n").starts_with("kovar.yaml:2:1: `node` is given twice"));
    let twice = "destinations:\n  pyroscope:\n    - url: http://a\n    - url: http://a\n";
    assert!(
        error(twice)
            .starts_with("kovar.yaml:4:12: `destinations.pyroscope[1]`: another destination is called `a`")
    );
    assert!(
        error("destinations: {pyroscope: [{name: store, url: 'http://a'}]}")
            .contains("embedded store's own name")
    );
}

#[test]
fn labels_and_headers_have_valid_names() {
    assert!(error("external_labels: {9a: x}").contains("starts with neither a digit nor `__`"));
    assert!(error("external_labels: {__name__: x}").contains("starts with neither a digit nor `__`"));
    assert!(
        error("destinations: {pyroscope: [{url: 'http://a', headers: {'a b': x}}]}")
            .contains("not a header's name")
    );
}

#[test]
fn variables_are_taken_from_the_environment() {
    let config =
        parse("destinations: {pyroscope: [{url: '${URL:-http://p:1}', bearer_token: '${TOKEN}'}]}\n")
            .expect("valid");
    assert_eq!(config.pyroscope[0].url.as_str(), "http://p:1");
    let token = Credential::Value(Secret::new("from-the-environment"));
    assert_eq!(config.pyroscope[0].client.auth, Some(Auth::Bearer(token)));
    assert_eq!(
        error("node:\n  name: ${NODE}\n"),
        "kovar.yaml:2:9: the environment variable `NODE` is not set; set it, or give a default as `${NODE:-value}`"
    );
}

#[test]
fn secrets_come_from_a_value_or_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "hunter2\n").expect("write");
    let entry = |auth: &str| format!("destinations:\n  pyroscope:\n    - url: http://a\n      {auth}\n");
    let config = parse(&entry(&format!("basic_auth: {{username: u, password_file: {}}}", file.display())))
        .expect("valid");
    let expected = Auth::Basic { username: "u".to_owned(), password: Credential::File(file) };
    assert_eq!(config.pyroscope[0].client.auth, Some(expected));

    let missing = error(&entry("bearer_token_file: /nonexistent/token"));
    assert!(
        missing.starts_with(
            "kovar.yaml:4:26: `destinations.pyroscope[0].bearer_token_file`: cannot read /nonexistent/token"
        ),
        "{missing}"
    );
    assert!(error(&entry("basic_auth: {username: u}")).contains("needs `password` or `password_file`"));
    assert!(
        error(&entry("basic_auth: {username: u, password: p, password_file: /p}"))
            .contains("exclude each other")
    );
    let both = "bearer_token: t\n      basic_auth: {username: u, password: p}";
    assert!(error(&entry(both)).contains("both `basic_auth` and a bearer token"));
    let alone = error(&entry("tls: {cert_file: /nonexistent/c}"));
    assert!(alone.contains("[0].tls.key_file`: missing beside tls.cert_file"), "{alone}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let load = |path: &Path| Config::load(Some(path)).expect_err("an error").to_string();
    assert!(
        load(Path::new("/nonexistent/kovar.yaml")).starts_with("/nonexistent/kovar.yaml: cannot be read")
    );
    let directory = tempfile::tempdir().expect("a directory");
    assert!(load(directory.path()).contains("is not a regular file"));
    let file = directory.path().join("kovar.yaml");
    std::fs::write(&file, b"node: \xff").expect("write");
    assert!(load(&file).contains("is not UTF-8, first at byte 6"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).expect("write");
    assert!(load(&file).contains("is larger than 1024 KiB"));
}

#[test]
fn the_effective_configuration_reads_back_the_same() {
    let text = "node: {name: 'a$b\"c'}\nexternal_labels: {x: y}\ndestinations: {pyroscope: [{url: 'http://a'}, {url: 'http://b', tls: {insecure_skip_verify: true}}]}";
    let config = parse(text).expect("valid");
    let yaml = config.to_yaml();
    let again = parse(&yaml).unwrap_or_else(|problems| panic!("{problems}\n{yaml}"));
    assert_eq!(again.to_yaml(), yaml);
    assert_eq!(again.node, "a$b\"c");
    assert_eq!(again.pyroscope, config.pyroscope);
    assert!(yaml.contains("rate_hz: 97\n") && yaml.contains("max_age: 24h\n"), "{yaml}");
}

#[test]
fn only_what_cannot_change_at_run_time_needs_a_restart() {
    let old = parse("").expect("valid");
    let new = parse("external_labels: {a: b}\nlog: {level: debug}\nprofiler: {rate_hz: 11}\ndestinations: {pyroscope: [{url: 'http://a'}]}\nui: {listen: '0.0.0.0:1'}")
        .expect("valid");
    assert_eq!(old.restart_needed(&new), ["profiler.rate_hz", "ui.listen"]);
    assert!(old.restart_needed(&old).is_empty());
}

#[test]
fn every_example_is_valid() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/config");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("deploy/config") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let variable = |name: &str| (name == "NODE_NAME").then(|| "node-1".to_owned());
        if let Err(problems) = Config::parse(&path.display().to_string(), &text, &variable) {
            // The files of the secrets exist only where the example is deployed.
            let problems = problems.to_string();
            let others = problems.lines().find(|line| !line.contains("cannot read /etc/kovar/secrets/"));
            assert_eq!(others, None, "{problems}");
        }
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}

#[test]
fn the_full_example_names_every_setting() {
    let text = include_str!("../../../../deploy/config/all.yaml");
    for line in super::reference::page().lines() {
        let Some(name) = line.strip_prefix("- `").and_then(|rest| rest.split('`').next()) else { continue };
        assert!(text.contains(&format!("{name}:")), "{name} is not in deploy/config/all.yaml");
    }
}

proptest! {
    #[test]
    fn secrets_are_never_printed(secret in "[a-zA-Z0-9!@%^*()+=~;${}]{12,40}", place in 0..5usize, broken in any::<bool>()) {
        let quoted = format!("'{secret}'");
        let field = [
            format!("bearer_token: {quoted}"),
            format!("basic_auth: {{username: u, password: {quoted}}}"),
            format!("headers: {{X-Key: {quoted}}}"),
            format!("bearer_token: [{quoted}]"),
            format!("basic_auth: {{username: u, password: {{a: {quoted}}}}}"),
        ][place].clone();
        let rest = if broken { "ui: {listen: nowhere}\n" } else { "" };
        let text = format!("destinations:\n  pyroscope:\n    - url: http://a\n      {field}\n{rest}");
        let printed = match Config::parse("kovar.yaml", &text, &|_| None) {
            Ok(config) => format!("{}{config:?}", config.to_yaml()),
            Err(problems) => format!("{problems}{problems:?}"),
        };
        prop_assert!(!printed.contains(&secret), "{printed}");
        prop_assert!(broken || place > 2 || secret.contains('$') || printed.contains("***"), "{printed}");
    }

    #[test]
    fn no_file_makes_the_reader_panic(text in "(node|profiler|ui|rate_hz|name|url|destinations|pyroscope|:|\\[|\\]|\\{|\\}|,|- |\n|  |'|\\$\\{|1|s){0,40}") {
        match Config::parse("kovar.yaml", &text, &|_| None) {
            Ok(config) => prop_assert!(!config.to_yaml().is_empty()),
            Err(problems) => prop_assert!(!problems.to_string().is_empty()),
        }
    }
}
