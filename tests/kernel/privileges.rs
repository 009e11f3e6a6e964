//! What works with which privileges, and that what lacks is named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::kovar;
use tests::pprof::{self, Profile, Stack};
use tests::process::{self, Finished};
use tests::program::Program;
use tests::sysctl::Sysctl;

use crate::summary::Summary;

const LIMIT: Duration = Duration::from_secs(60);
/// The user `nobody`.
const NOBODY: &str = "65534";
/// What a pod without privileges is given, CAP_SYSLOG not among it.
const FIVE: [&str; 5] = ["bpf", "perfmon", "sys_ptrace", "checkpoint_restore", "dac_read_search"];

/// A copy of the binary that everybody can execute, in a directory that everybody can write.
struct Nobody {
    dir: TempDir,
    binary: PathBuf,
}

impl Nobody {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let binary = dir.path().join("kovar");
        fs::copy(kovar::binary()?, &binary)?;
        Ok(Self { dir, binary })
    }

    /// Runs kovar as an unprivileged user with these capabilities only.
    fn run(&self, capabilities: &[&str], arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        if !capabilities.is_empty() {
            let list: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
            command.args(["--inh-caps", &list.join(","), "--ambient-caps", &list.join(",")]);
        }
        command.arg(&self.binary).args(arguments).env_remove("KOVAR_LOG");
        process::finish(command, LIMIT)
    }

    fn profile(&self, capabilities: &[&str]) -> Result<(Finished, PathBuf)> {
        let output = self.dir.path().join("p.pb.gz");
        let text = output.to_str().context("a path")?;
        Ok((self.run(capabilities, &["profile", "--duration", "2s", "--output", text])?, output))
    }
}

/// The row of doctor's table with this name, with the lines that continue it.
fn row(table: &str, name: &str) -> Result<String> {
    let mut lines = table.lines().skip_while(|line| !line.starts_with(name));
    let first = lines.next().with_context(|| format!("no row {name:?} in:\n{table}"))?;
    let more = lines.take_while(|line| line.starts_with(' '));
    Ok([first].into_iter().chain(more).collect::<Vec<_>>().join("\n"))
}

fn state(table: &str, name: &str) -> Result<String> {
    let row = row(table, name)?;
    let word = row[name.len()..].split_whitespace().next();
    word.map(str::to_owned).with_context(|| row.clone())
}

/// Kernel frames of the split program's read: with names, and without.
fn kernel_frames(profile: &Profile) -> (u64, u64) {
    let has = |stack: &&Stack, test: fn(&str) -> bool| {
        stack.frames.iter().any(|frame| frame.is_kernel() && test(&frame.name))
    };
    let named = profile.of_process("split").filter(|it| has(it, |name| name == "vfs_read"));
    let bare = profile.of_process("split").filter(|it| has(it, |name| name.starts_with("[kernel]+0x")));
    (pprof::samples(named), pprof::samples(bare))
}

#[test]
fn root_samples_at_every_paranoid_level() -> Result<()> {
    let program = Program::split()?;
    let output = program.dir().join("p.pb.gz");
    for level in ["-1", "2", "3"] {
        let _paranoid = Sysctl::set("kernel.perf_event_paranoid", level)?;
        let table = kovar::finish(&["doctor"], LIMIT)?.success()?.stdout;
        ensure!(state(&table, "perf events")? == "works", "level {level}:\n{table}");
        ensure!(
            row(&table, "perf events")?.contains(&format!("kernel.perf_event_paranoid is {level}")),
            "{table}"
        );
        let _split = program.start(&["20"])?;
        let ended = kovar::start_profile(2, &output)?.finish(LIMIT)?.success()?;
        ensure!(Summary::parse(&ended.stderr)?.delivered > 0, "level {level}: {}", ended.stderr);
        let (named, bare) = kernel_frames(&Profile::read(&output)?);
        ensure!(named > 0 && bare == 0, "level {level}: {named} kernel stacks with names, {bare} without");
    }
    Ok(())
}

/// Mainline kernels let CAP_PERFMON sample at every level. Debian's patch adds level 3, which wants CAP_SYS_ADMIN:
/// there the refusal must name the setting. Which of them this kernel is shows at level 3.
#[test]
fn perfmon_without_admin_samples_up_to_level_2_and_a_refusal_names_the_setting() -> Result<()> {
    let program = Program::split()?;
    let nobody = Nobody::new()?;
    for level in ["-1", "2", "3"] {
        let _paranoid = Sysctl::set("kernel.perf_event_paranoid", level)?;
        let _split = program.start(&["20"])?;
        let doctor = nobody.run(&FIVE, &["doctor"])?;
        let works = state(&doctor.stdout, "perf events")? == "works";
        let (ended, output) = nobody.profile(&FIVE)?;
        if level == "3" && !works {
            ensure!(doctor.code() == Some(1) && ended.code() == Some(1), "{doctor:?} {ended:?}");
            for text in [row(&doctor.stdout, "perf events")?, ended.stderr] {
                ensure!(
                    text.contains("kernel.perf_event_paranoid is 3") && text.contains("CAP_SYS_ADMIN"),
                    "{text}"
                );
            }
            continue;
        }
        ensure!(works, "level {level}:\n{}", doctor.stdout);
        ensure!(doctor.code() == Some(0), "level {level}: {doctor:?}");
        ended.success()?;
        let profile = Profile::read(&output)?;
        let user = pprof::samples(profile.of_process("split").filter(|stack| stack.has("work_a")));
        ensure!(user > 0, "level {level}:\n{}", pprof::describe(profile.stacks.iter()));
        // Without CAP_SYSLOG the kernel shows its addresses at levels up to 1 only.
        let (named, bare) = kernel_frames(&profile);
        let shown = level == "-1";
        ensure!((named > 0) == shown && (bare > 0) != shown, "level {level}: {named} named, {bare} bare");
        let expected = if shown { "works" } else { "less" };
        ensure!(state(&doctor.stdout, "kernel symbols")? == expected, "level {level}:\n{}", doctor.stdout);
    }
    Ok(())
}

#[test]
fn kernel_frames_have_names_only_when_the_kernel_shows_them_and_doctor_says_so() -> Result<()> {
    let program = Program::split()?;
    let nobody = Nobody::new()?;
    let _paranoid = Sysctl::set("kernel.perf_event_paranoid", "1")?;
    let with_syslog: Vec<&str> = FIVE.into_iter().chain(["syslog"]).collect();
    for (restrict, capabilities, shown) in [
        ("0", FIVE.as_slice(), true),
        ("1", FIVE.as_slice(), false),
        ("1", with_syslog.as_slice(), true),
        ("2", FIVE.as_slice(), false),
        ("2", with_syslog.as_slice(), false),
    ] {
        let _restrict = Sysctl::set("kernel.kptr_restrict", restrict)?;
        let case = format!("kptr_restrict {restrict}, {capabilities:?}");
        let table = nobody.run(capabilities, &["doctor"])?.success().with_context(|| case.clone())?.stdout;
        let symbols = row(&table, "kernel symbols")?;
        ensure!(symbols.contains(&format!("kernel.kptr_restrict is {restrict}")), "{case}: {symbols}");
        ensure!(
            state(&table, "kernel symbols")? == if shown { "works" } else { "less" },
            "{case}: {symbols}"
        );
        ensure!(shown || symbols.contains("CAP_SYSLOG"), "{case}: {symbols}");
        let _split = program.start(&["20"])?;
        let (ended, output) = nobody.profile(capabilities)?;
        ended.success().with_context(|| case.clone())?;
        let (named, bare) = kernel_frames(&Profile::read(&output)?);
        ensure!((named > 0) == shown && (bare > 0) != shown, "{case}: {named} named, {bare} bare");
    }
    Ok(())
}

#[test]
fn without_capabilities_it_exits_with_1_and_names_what_it_lacks() -> Result<()> {
    let nobody = Nobody::new()?;
    let config = nobody.dir.path().join("kovar.yaml");
    fs::write(&config, kovar::configuration(&nobody.dir.path().join("store"), ""))?;
    let config = config.to_str().context("a path")?;
    let run = nobody.run(&[], &["run", "--config", config])?;
    let (profile, output) = nobody.profile(&[])?;
    for ended in [&run, &profile] {
        ensure!(ended.code() == Some(1), "{ended:?}");
        ensure!(ended.stderr.contains("CAP_BPF") && ended.stderr.contains("CAP_PERFMON"), "{}", ended.stderr);
    }
    ensure!(!output.exists(), "a file was left behind by a profile that never began");
    for (have, lacks) in [("bpf", "CAP_PERFMON"), ("perfmon", "CAP_BPF")] {
        let (ended, _) = nobody.profile(&[have])?;
        let named = ended.stderr.contains(&format!("lacks {lacks}"));
        ensure!(ended.code() == Some(1) && named, "with {have}: {}", ended.stderr);
    }
    let doctor = nobody.run(&[], &["doctor"])?;
    ensure!(doctor.code() == Some(1), "{doctor:?}");
    for name in ["CAP_BPF", "CAP_PERFMON", "perf events", "sampler"] {
        ensure!(state(&doctor.stdout, name)? == "MISSING", "{name}:\n{}", doctor.stdout);
    }
    Ok(())
}
