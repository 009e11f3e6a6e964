//! The command line.

use crate::config::{Interval, Level};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// One collector per node: profiles every process of the machine from the kernel.
#[derive(Debug, Parser)]
#[command(name = "kovar", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Example: kovar run    (then open http://localhost:12345)")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// How much is logged to standard error: error, warn, info, debug or trace. Comes before the configuration file.
    #[arg(long, global = true, env = "KOVAR_LOG", value_name = "LEVEL")]
    pub(crate) log_level: Option<Level>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Collects until it is told to stop. Needs no configuration.
    #[command(after_help = "Example: kovar run --config /etc/kovar/kovar.yaml")]
    Run(ConfigFile),

    /// Profiles the machine, a process or a container for a while and writes a file.
    #[command(after_help = "Example: kovar profile --duration 10s --output out.svg")]
    Profile(Profile),

    /// Checks a configuration file; prints every error with its line. Exit code 1 if there is one.
    #[command(after_help = "Example: kovar check --config kovar.yaml")]
    Check {
        /// The file to check.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },

    /// Says what this host gives and lacks. Exit code 1 if profiling cannot work.
    #[command(after_help = "Example: kovar doctor --config /etc/kovar/kovar.yaml")]
    Doctor(ConfigFile),

    /// Prints the effective configuration, secrets hidden.
    #[command(after_help = "Example: kovar config --config kovar.yaml")]
    Config {
        #[command(flatten)]
        file: ConfigFile,

        /// Prints what every setting means instead, as Markdown.
        #[arg(long, conflicts_with = "config")]
        reference: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file. Without it /etc/kovar/kovar.yaml is read if it exists, or else every default holds.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Profile {
    /// How long to profile, from 1s to 1h. Ctrl-C ends earlier and still writes the file.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Interval,

    /// Only the process of this id.
    #[arg(long, value_name = "PID", conflicts_with = "container", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: Option<u32>,

    /// Only the container of this id; its first 8 characters are enough.
    #[arg(long, value_name = "ID", value_parser = container)]
    pub(crate) container: Option<String>,

    /// Where to write: .pb.gz for `go tool pprof` and Pyroscope, .folded for text, .svg for a flame graph.
    #[arg(long, default_value = "profile.pb.gz", value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Samples per second on each CPU.
    #[arg(long, default_value_t = 97, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rate_hz: u32,
}

fn duration(text: &str) -> Result<Interval, String> {
    let duration: Interval = text.parse()?;
    let limits = Interval::seconds(1)..=Interval::hours(1);
    if !limits.contains(&duration) {
        return Err(format!("must be from {} to {}", limits.start(), limits.end()));
    }
    Ok(duration)
}

fn container(text: &str) -> Result<String, String> {
    if text.len() < 8 || text.len() > 128 {
        return Err("give at least 8 characters of the container's id".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent_and_each_help_has_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example: kovar"), "{help}");
        }
    }

    #[test]
    fn limits_of_options_are_kept() {
        for bad in [
            &["kovar", "profile", "--duration", "0s"][..],
            &["kovar", "profile", "--duration", "2h"],
            &["kovar", "profile", "--rate-hz", "0"],
            &["kovar", "profile", "--pid", "0"],
            &["kovar", "profile", "--container", "abc"],
            &["kovar", "profile", "--pid", "1", "--container", "0123456789"],
            &["kovar", "check"],
            &["kovar", "run", "--log-level", "loud"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
