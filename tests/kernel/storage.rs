//! The embedded store through restarts, damage and a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::kovar::{self, Running};
use tests::pprof::{self, Profile};
use tests::program::Program;
use tests::{process, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// A component that takes nothing for a minute is called unhealthy.
const UNHEALTHY_LIMIT: Duration = Duration::from_secs(120);
const PUSH: &str = "profiler: {push_interval: 5s}";

/// Samples of a function in what the store answers for a process.
fn samples(running: &Running, process: &str, function: &str) -> Result<u64> {
    let answer = running.get(&format!("/api/v1/pprof?process={process}"))?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let profile = Profile::parse(&answer.body)?;
    Ok(pprof::samples(profile.stacks.iter().filter(|stack| stack.has(function))))
}

#[test]
fn the_last_interval_is_in_the_store_after_a_stop_and_a_restart() -> Result<()> {
    let program = Program::split()?;
    let store = program.dir().join("store");
    // Longer than the test: what is there after it came with the stop.
    let interval = "profiler: {push_interval: 60s}";
    let mut running = Running::start(&store, interval)?;
    let split = program.start(&["60"])?;
    let live = wait::until("live samples", LIMIT, || {
        let found = samples(&running, "split", "work_a")?;
        Ok((found >= 50).then_some(found))
    })?;
    split.stop()?;
    let written = running.metric("kovar_store_records", "")?;
    ensure!(written == Some(0.0), "{written:?} records were written before the stop");
    running.process().signal(libc::SIGTERM)?;
    let ended = running.stop()?;
    ensure!(ended.code() == Some(0), "{ended:?}");

    let running = Running::start(&store, interval)?;
    let found = samples(&running, "split", "work_a")?;
    ensure!(found >= live, "{found} samples after the restart, {live} before");
    Ok(())
}

#[test]
fn a_store_whose_files_are_damaged_opens_counts_and_keeps_the_rest() -> Result<()> {
    let program = Program::split()?;
    let store = program.dir().join("store");
    let _split = program.start(&["60"])?;
    let running = Running::start(&store, PUSH)?;
    wait::until("two records", LIMIT, || {
        Ok((running.metric("kovar_store_records", "")? >= Some(2.0)).then_some(()))
    })?;
    running.stop()?;

    let segment = segments(&store)?.pop().context("a segment")?;
    let mut bytes = fs::read(&segment)?;
    let length = bytes.len();
    // The last record is damaged in the middle; a whole file is not a segment.
    bytes[length - 100..length - 50].fill(0xaa);
    fs::write(&segment, &bytes)?;
    fs::write(store.join("0000000000001-0000000007.seg"), b"this is not a segment")?;

    let running = Running::start(&store, PUSH)?;
    let of = |name: &str| -> Result<f64> { running.metric(name, "")?.with_context(|| name.to_owned()) };
    ensure!(of("kovar_store_set_aside_segments_total")? == 1.0, "the file that is no segment is not counted");
    let kept = samples(&running, "split", "work_a")?;
    ensure!(kept > 0, "the records before the damage are gone");
    // Checksums are checked when a record is read.
    let damaged = of("kovar_store_corrupt_records_total")? + of("kovar_store_torn_tails_total")?;
    ensure!(damaged >= 1.0, "the damaged record is not counted");
    let before = of("kovar_store_records")?;
    wait::until("a new record", LIMIT, || Ok((of("kovar_store_records")? > before).then_some(())))
}

fn segments(store: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(store)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
    paths.sort();
    Ok(paths)
}

#[test]
fn a_store_in_use_is_refused_to_a_second_collector() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let first = Running::start(dir.path(), "")?;
    let config = first.config().to_str().context("a path")?;
    let second = kovar::finish(&["run", "--config", config], LIMIT)?;
    ensure!(second.code() == Some(1), "{second:?}");
    let path = dir.path().display().to_string();
    ensure!(
        second.stderr.contains(&path) && second.stderr.contains("in use by another process"),
        "{second:?}"
    );
    ensure!(first.get("/-/ready")?.status == 200, "the first one suffers");
    Ok(())
}

#[test]
fn a_full_disk_is_reported_and_the_store_goes_on_once_there_is_room() -> Result<()> {
    let program = Program::split()?;
    let _split = program.start(&["240"])?;
    // Room enough afterwards for everything that waited, also on a machine with much to tell.
    let disk = Disk::mount("64m")?;
    let mut running = Running::start(&disk.path().join("store"), PUSH)?;
    let filler = disk.path().join("filler");
    fill(&filler)?;
    let of = |running: &Running, name: &str, labels: &str| -> Result<f64> {
        running.metric(name, labels)?.with_context(|| name.to_owned())
    };
    let store = "destination=\"store\"";
    wait::until("a failed write", LIMIT, || {
        Ok((of(&running, "kovar_store_append_errors_total", "")? > 0.0).then_some(()))
    })?;
    let health = wait::until("the health to say so", UNHEALTHY_LIMIT, || {
        let answer = running.get("/-/healthy")?;
        Ok((answer.status != 200).then(|| answer.text()))
    })?;
    ensure!(health.contains("destination store") && health.contains("no space left"), "{health}");
    ensure!(running.process().ended()?.is_none(), "it ended");
    wait::until("the page to show what is live", LIMIT, || {
        Ok((samples(&running, "split", "work_a")? > 0).then_some(()))
    })?;
    ensure!(of(&running, "kovar_queue_lost_records_total", store)? == 0.0, "what waits was lost");

    fs::remove_file(&filler)?;
    wait::until("the store to catch up", UNHEALTHY_LIMIT, || {
        Ok((of(&running, "kovar_queue_pending_records", store)? == 0.0).then_some(()))
    })?;
    wait::until("health", LIMIT, || Ok((running.get("/-/healthy")?.status == 200).then_some(())))?;
    let ended = running.stop()?;
    ensure!(ended.code() == Some(0), "{ended:?}");
    Ok(())
}

/// Takes all room there is, to the last byte.
fn fill(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let block = [0_u8; 512];
    loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &block) {
            ensure!(error.kind() == std::io::ErrorKind::StorageFull, "{error}");
            return Ok(());
        }
    }
}

/// A small file system of its own in a temporary directory.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn mount(size: &str) -> Result<Self> {
        let disk = Self { dir: tempfile::tempdir()? };
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "kovar-test"]).arg(disk.path());
        process::finish(command, LIMIT)?.success()?;
        Ok(disk)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg(self.path());
        // Nobody is left to tell; the directory cannot be removed then and shows it.
        let _ended = process::finish(command, LIMIT);
    }
}
