//! Samples of containers carry the container's id; containerd and runc are the lab's real ones.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::kovar;
use tests::lab::Lab;
use tests::pprof::{self, Profile, Stack};
use tests::process::{self, Process};
use tests::program::Program;

const LIMIT: Duration = Duration::from_secs(60);
const IMAGE: &str = "docker.io/kovar/burn:1";
/// `kovar profile` merges what it has this long after its start.
const PUSH_INTERVAL: Duration = Duration::from_secs(5);

/// containerd with one image: the static program as `/burn`.
struct Containerd {
    lab: Lab,
    program: Program,
}

impl Containerd {
    fn start() -> Result<Self> {
        let flags = ["-O0", "-g", "-fno-omit-frame-pointer", "-static"];
        let program = Program::compile("burn.c", &flags)?;
        let containerd = Self { lab: Lab::start("containerd")?, program };
        let archive = image(&containerd.program)?;
        let text = archive.to_str().context("a path")?;
        process::finish(containerd.ctr(&["images", "import", text])?, LIMIT)?.success()?;
        Ok(containerd)
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.lab.value("ctr")?);
        command.arg("--address").arg(self.lab.value("address")?).args(arguments);
        Ok(command)
    }

    /// Runs the program in a container that is removed at its end.
    fn run(&self, id: &str, more: &[&str], milliseconds: &str) -> Result<Process> {
        let arguments = [&["run", "--rm", "--null-io"], more, &[IMAGE, id, "/burn", milliseconds]].concat();
        Process::start(self.ctr(&arguments)?)
    }
}

/// A docker-archive of one layer that holds the program alone.
fn image(program: &Program) -> Result<std::path::PathBuf> {
    let dir = program.dir();
    let run = |name: &str, arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(name);
        command.args(arguments).current_dir(dir);
        Ok(process::finish(command, LIMIT)?.success()?.stdout)
    };
    run("tar", &["--create", "--file", "layer.tar", "burn"])?;
    let sum = run("sha256sum", &["layer.tar"])?;
    let layer = sum.split_whitespace().next().context("a checksum")?;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Entrypoint": ["/burn"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    fs::write(dir.join("config.json"), config.to_string())?;
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    run("tar", &["--create", "--file", "image.tar", "manifest.json", "config.json", "layer.tar"])?;
    Ok(dir.join("image.tar"))
}

fn stacks_of<'a>(profile: &'a Profile, container: &'a str) -> impl Iterator<Item = &'a Stack> {
    profile.stacks.iter().filter(move |stack| stack.label("container_id") == container)
}

/// The container's own program in it, with its function, at least this often; and nowhere else.
fn check(output: &Path, container: &str, samples_min: u64) -> Result<()> {
    let profile = Profile::read(output)?;
    let describe = || pprof::describe(profile.stacks.iter().filter(|stack| stack.process_name() == "burn"));
    let named =
        |stack: &&Stack| stack.process_name() == "burn" && stack.has("burn_here") && stack.has("main");
    let found = pprof::samples(stacks_of(&profile, container).filter(named));
    ensure!(found >= samples_min, "{found} samples in {container}:\n{}", describe());
    let mut outside = profile.stacks.iter().filter(named);
    ensure!(outside.all(|stack| stack.label("container_id") == container), "{}", describe());
    Ok(())
}

#[test]
fn samples_of_a_container_carry_its_id_in_the_layouts_of_containerd_and_of_kubernetes() -> Result<()> {
    let containerd = Containerd::start()?;
    let output = containerd.program.dir().join("p.pb.gz");
    let id = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let pod = format!("/kubepods/besteffort/pod1b0c2f5e-7d3a-4c8b-9f6e-0a1b2c3d4e5f/{id}");
    for (container, more) in [("burning-1.a", [].as_slice()), (id, &["--cgroup", &pod])] {
        let profiler = kovar::start_profile(5, &output)?;
        let running = containerd.run(container, more, "2500")?;
        running.finish(LIMIT)?.success()?;
        profiler.finish(LIMIT)?.success()?;
        check(&output, container, 40)?;
    }
    Ok(())
}

#[test]
fn a_container_that_is_only_asked_for_by_its_id_is_profiled_alone() -> Result<()> {
    let containerd = Containerd::start()?;
    let output = containerd.program.dir().join("p.pb.gz");
    let id = "a0d1c2b3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f";
    let _outside = containerd.program.start(&["30000"])?;
    let mut command = kovar::command(&["profile", "--duration", "4s", "--container", &id[..12], "--output"])?;
    command.arg(&output);
    let profiler = Process::start(command)?;
    containerd.run(id, &["--cgroup", &format!("/batch/jobs/{id}")], "2000")?.finish(LIMIT)?.success()?;
    profiler.finish(LIMIT)?.success()?;
    check(&output, id, 30)?;
    let profile = Profile::read(&output)?;
    let others = profile.stacks.iter().filter(|stack| stack.label("container_id") != id);
    ensure!(others.clone().count() == 0, "{}", pprof::describe(others));
    Ok(())
}

#[test]
fn a_container_that_lived_300_ms_has_its_id_on_its_samples() -> Result<()> {
    let containerd = Containerd::start()?;
    let output = containerd.program.dir().join("p.pb.gz");
    let start = Instant::now();
    let mut profiler = kovar::start_profile(8, &output)?;
    kovar::wait_sampling(&mut profiler)?;
    containerd.run("mayfly-1", &[], "300")?.finish(LIMIT)?.success()?;
    let gone = start.elapsed();
    ensure!(gone + Duration::from_secs(1) < PUSH_INTERVAL, "it was gone after {gone:?} only");
    profiler.finish(LIMIT)?.success()?;
    check(&output, "mayfly-1", 8)
}
