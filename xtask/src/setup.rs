//! `setup`: installs what building and testing need, or says what is missing and how to get it.

use anyhow::Result;
use clap::ValueEnum;

mod bpf_linker;
mod distribution;
mod host;
mod needs;

use distribution::Distribution;
pub(crate) use host::is_root;
use needs::{NEEDS, Need};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the machine is to be made ready for.
    #[arg(long = "for", value_enum, default_value_t = Purpose::All)]
    purpose: Purpose,
}

/// What the machine is made ready for; a test level by its name, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Building and running kovar.
    Run,
    Unit,
    Kernel,
    Backends,
    Browser,
    Vm,
    All,
}

impl Purpose {
    /// Whether a thing needed for `other` is needed here: everything is built first.
    fn covers(self, other: Self) -> bool {
        self == other || self == Self::All || other == Self::Run
    }
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let ready = prepare(args.purpose)?;
    for problem in host::problems() {
        println!("this host: {problem}");
    }
    Ok(ready)
}

/// Installs what is missing for the purpose; false when something is still missing, which has then been said.
pub(crate) fn prepare(purpose: Purpose) -> Result<bool> {
    let distribution = Distribution::of_this_machine();
    let needs: Vec<&Need> = NEEDS.iter().filter(|need| purpose.covers(need.purpose)).collect();
    let missing = distribution.missing(&needs)?;
    let mut changed = false;
    if !missing.is_empty() {
        for need in &missing {
            println!("missing: {} ({})", need.name(&distribution), need.why);
        }
        if !distribution.install(&missing)? {
            return Ok(false);
        }
        changed = true;
    }
    changed |= bpf_linker::install_toolchain(&distribution)?;
    changed |= bpf_linker::install()?;
    if !changed {
        println!("setup for {}: nothing to do", name_of(purpose));
    }
    Ok(true)
}

fn name_of(purpose: Purpose) -> String {
    purpose.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_needs_what_building_needs() {
        for purpose in [Purpose::Unit, Purpose::Vm, Purpose::All] {
            assert!(purpose.covers(Purpose::Run));
        }
        assert!(!Purpose::Unit.covers(Purpose::Browser));
        assert!(Purpose::All.covers(Purpose::Browser));
    }
}
