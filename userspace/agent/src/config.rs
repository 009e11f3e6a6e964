//! The configuration: read with every error at once, checked, shown and documented.

mod document;
mod environment;
mod problem;
mod reference;
mod setting;
mod settings;
mod values;

pub(crate) use problem::Problems;
pub(crate) use reference::page as reference_page;
pub(crate) use values::{Interval, Level, Url};

use environment::Environment;
use setting::{Setting, Shown};
use settings::{BasicAuth, Pyroscope, Settings};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use transport::{Auth, ClientConfig, Credential, HttpClient, Secret, TlsConfig};

/// Read when no other file is named and this one exists.
pub(crate) const PATH_DEFAULT: &str = "/etc/kovar/kovar.yaml";

/// A larger configuration file is an error.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the collector does, checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The value of the `node` label.
    pub(crate) node: String,
    /// Sorted by name.
    pub(crate) external_labels: Vec<(String, String)>,
    pub(crate) log_level: Level,
    pub(crate) profiler: Option<profiler::Config>,
    pub(crate) queue_bytes_max: u64,
    pub(crate) storage: Storage,
    pub(crate) pyroscope: Vec<Destination>,
    pub(crate) listen: SocketAddr,
    shown: Shown,
}

/// Where profiles are kept on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) path: PathBuf,
    /// Whether the file names the path; only then must it be writable.
    pub(crate) path_is_configured: bool,
    pub(crate) bytes_max: u64,
    pub(crate) age_max_s: u64,
}

/// One backend that speaks Pyroscope's push protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Unique among the destinations.
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) client: ClientConfig,
}

impl Storage {
    /// The store's own settings, in the directory that was found.
    pub(crate) fn store(&self, path: PathBuf) -> store::Config {
        store::Config { path, bytes_max: self.bytes_max, age_max_s: self.age_max_s }
    }
}

impl Config {
    /// Reads `file`, or without one the default path if it exists, or else takes every default.
    ///
    /// # Errors
    /// Every problem of the file, each with its line.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Problems> {
        let default = Path::new(PATH_DEFAULT);
        // A default file that cannot be looked at is read all the same, so that the error is seen.
        let is_there = !matches!(default.try_exists(), Ok(false));
        let Some(file) = file.or_else(|| is_there.then_some(default)) else {
            return Self::parse("(defaults)", "", &|_| None);
        };
        let name = file.display().to_string();
        match read_capped(file, FILE_BYTES_MAX) {
            Ok(text) => Self::parse(&name, &text, &|variable| std::env::var(variable).ok()),
            Err(problem) => {
                let mut problems = Problems::new(name);
                problems.add_file(problem);
                Err(problems)
            }
        }
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// Every problem of the text, each with its line.
    pub(crate) fn parse(name: &str, text: &str, environment: Environment<'_>) -> Result<Self, Problems> {
        let mut problems = Problems::new(name);
        let settings = document::parse(text, environment, &mut problems)
            .and_then(|node| Settings::read(&node, "", &mut problems));
        let config = settings.map(|settings| check(settings, &mut problems));
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// The effective configuration as YAML, secrets hidden.
    pub(crate) fn to_yaml(&self) -> String {
        reference::yaml(&self.shown)
    }

    /// What is sampled, in words.
    pub(crate) fn samples(&self) -> String {
        let Some(profiler) = &self.profiler else { return "nothing".to_owned() };
        let what = match (profiler.kernel, profiler.user) {
            (true, true) => "kernel and user",
            (true, false) => "kernel",
            _ => "user",
        };
        format!("every process, {what} stacks, {} Hz", profiler.rate_hz)
    }

    /// The settings that differ in `new` and need a restart.
    pub(crate) fn restart_needed(&self, new: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        differences("", &self.shown, &new.shown, &mut changed);
        let at_run_time = ["external_labels", "destinations", "log"];
        changed.retain(|path| !at_run_time.contains(&path.split('.').next().unwrap_or(path)));
        changed
    }
}

/// Turns what the file says into what the collector does.
fn check(mut settings: Settings, problems: &mut Problems) -> Config {
    let node = settings.node.name.clone().or_else(hostname).unwrap_or_else(|| {
        problems.add_file("this host has no name; set `node.name`");
        String::new()
    });
    settings.node.name = Some(node.clone());
    let mut names = HashSet::new();
    let pyroscope = settings.destinations.pyroscope.iter_mut().enumerate();
    let pyroscope = pyroscope.filter_map(|(i, entry)| destination(i, entry, &mut names, problems)).collect();
    let profiler = &settings.profiler;
    if profiler.enabled && !profiler.kernel && !profiler.user {
        let at = profiler.places.of("user");
        problems.add(
            at,
            "`profiler.kernel` and `profiler.user` are both false, nothing is left; use `enabled: false`",
        );
    }
    Config {
        node,
        external_labels: settings.external_labels.0.clone().into_iter().collect(),
        log_level: settings.log.level,
        profiler: profiler.enabled.then(|| profiler::Config {
            rate_hz: profiler.rate_hz,
            kernel: profiler.kernel,
            user: profiler.user,
            drain_interval_ms: profiler.drain_interval.as_ms(),
            push_interval_ms: profiler.push_interval.as_ms(),
            tables_max_bytes: profiler.tables_max_bytes.bytes(),
            only: profiler::Only::Everything,
        }),
        queue_bytes_max: settings.queue.max_bytes.bytes(),
        storage: Storage {
            path: settings.storage.path.clone(),
            path_is_configured: settings.storage.places.has("path"),
            bytes_max: settings.storage.max_bytes.bytes(),
            age_max_s: settings.storage.max_age.as_ms() / 1000,
        },
        pyroscope,
        listen: settings.ui.listen,
        shown: settings.show(),
    }
}

fn destination(
    index: usize,
    entry: &mut Pyroscope,
    names: &mut HashSet<String>,
    problems: &mut Problems,
) -> Option<Destination> {
    let path = format!("destinations.pyroscope[{index}]");
    let name = entry.name.clone().unwrap_or_else(|| entry.url.host_and_port().0);
    if !names.insert(name.clone()) {
        let place = if entry.places.has("name") { "name" } else { "url" };
        problems.add(
            entry.places.of(place),
            format!("`{path}`: another destination is called `{name}`; give each its own `name`"),
        );
    }
    if name == crate::store_writer::NAME {
        problems.add(
            entry.places.of("name"),
            format!("`{path}.name`: `{name}` is the embedded store's own name"),
        );
    }
    entry.name = Some(name.clone());
    let client = ClientConfig {
        timeout: entry.timeout.duration(),
        headers: entry.headers.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        auth: auth(&path, entry, problems),
        tenant: entry.tenant.clone(),
        tls: tls(entry),
        ..ClientConfig::default()
    };
    check_client(&path, entry, &client, problems);
    Some(Destination { name, url: entry.url.clone(), client })
}

fn tls(entry: &Pyroscope) -> TlsConfig {
    entry.tls.as_ref().map_or_else(TlsConfig::default, |tls| TlsConfig {
        ca_file: tls.ca_file.clone(),
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        insecure_skip_verify: tls.insecure_skip_verify,
    })
}

fn auth(path: &str, entry: &Pyroscope, problems: &mut Problems) -> Option<Auth> {
    let bearer = credential(
        &format!("{path}.bearer_token"),
        ("bearer_token", entry.bearer_token.as_ref()),
        ("bearer_token_file", entry.bearer_token_file.as_deref()),
        &entry.places,
        problems,
    );
    let Some(basic) = &entry.basic_auth else { return bearer.map(Auth::Bearer) };
    if bearer.is_some() {
        let text = format!("`{path}` has both `basic_auth` and a bearer token; keep one of them");
        problems.add(entry.places.of("basic_auth"), text);
        return None;
    }
    let password = password(&format!("{path}.basic_auth"), basic, problems)?;
    Some(Auth::Basic { username: basic.username.clone(), password })
}

fn password(path: &str, basic: &BasicAuth, problems: &mut Problems) -> Option<Credential> {
    if basic.username.contains(':') {
        problems.add(basic.places.of("username"), format!("`{path}.username` must not hold a `:`"));
    }
    if basic.password.is_none() && basic.password_file.is_none() {
        problems.add(basic.places.of("username"), format!("`{path}` needs `password` or `password_file`"));
    }
    credential(
        path,
        ("password", basic.password.as_ref()),
        ("password_file", basic.password_file.as_deref()),
        &basic.places,
        problems,
    )
}

/// A secret that is given directly or by a file, but not by both.
fn credential(
    path: &str,
    (key, value): (&'static str, Option<&Secret>),
    (file_key, file): (&'static str, Option<&Path>),
    places: &setting::Places,
    problems: &mut Problems,
) -> Option<Credential> {
    match (value, file) {
        (Some(_), Some(_)) => {
            problems
                .add(places.of(file_key), format!("`{path}`: `{key}` and `{file_key}` exclude each other"));
            None
        }
        (Some(value), None) => Some(Credential::Value(value.clone())),
        (None, file) => file.map(|file| Credential::File(file.to_owned())),
    }
}

/// Makes clients of one part of the settings each, so that a problem in one does not hide one in another.
fn check_client(path: &str, entry: &Pyroscope, client: &ClientConfig, problems: &mut Problems) {
    let parts = [
        ClientConfig { auth: client.auth.clone(), ..ClientConfig::default() },
        ClientConfig { tls: client.tls.clone(), ..ClientConfig::default() },
        ClientConfig { auth: None, tls: TlsConfig::default(), ..client.clone() },
        ClientConfig { tls: TlsConfig::default(), ..client.clone() },
    ];
    let mut seen = HashSet::new();
    for error in parts.into_iter().filter_map(|part| HttpClient::new(part).err()) {
        let transport::Error::Config { setting, problem } = error else { continue };
        let (section, key) = setting.split_once('.').unwrap_or((&setting, ""));
        let (places, name) = match (section, key, &entry.basic_auth, &entry.tls) {
            ("auth", "password_file", Some(basic), _) => {
                (basic.places.of(key), "basic_auth.password_file".into())
            }
            ("auth", ..) => (entry.places.of(key), key.to_owned()),
            ("tls", _, _, Some(tls)) => (tls.places.of(key), setting.clone()),
            _ => (entry.places.of(section), setting.clone()),
        };
        if seen.insert(setting) {
            problems.add(places, format!("`{path}.{name}`: {problem}"));
        }
    }
}

/// Reads a regular file of at most `bytes_max`; the problem is worded to stand behind the file's name.
fn read_capped(file: &Path, bytes_max: u64) -> Result<String, String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    // Without O_NONBLOCK a fifo in the file's place would block for ever.
    let mut opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(file)
        .map_err(|error| format!("cannot be read: {error}"))?;
    let metadata = opened.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut opened)
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("is larger than {} KiB", bytes_max >> 10));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8, first at byte {}", error.utf8_error().valid_up_to()))
}

/// The host's own name; `None` when it is empty or cannot be read.
pub(crate) fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Adds the path of each setting that differs.
fn differences(path: &str, old: &Shown, new: &Shown, out: &mut Vec<String>) {
    match (old, new) {
        (Shown::Map(old), Shown::Map(new)) if old.iter().map(|(k, _)| k).eq(new.iter().map(|(k, _)| k)) => {
            for ((key, old), (_, new)) in old.iter().zip(new) {
                differences(&setting::below(path, key), old, new, out);
            }
        }
        _ if old != new => out.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
