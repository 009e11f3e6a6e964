//! A case on disk: `case.json`, `samples.gz`, and the frames that it must give in `expected.txt`.

use std::fs;
use std::path::Path;

use abi::{End, GENERAL_REGISTERS, Registers};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{Recorded, chain_breach, compressed};

/// Samples of one case.
pub const SAMPLES_MAX: usize = 256;
/// Regions of memory of one sample, and bytes of one.
const REGIONS_MAX: u64 = 64;
const REGION_BYTES_MAX: u64 = 1 << 20;
const SAMPLES_BYTES_MAX: u64 = 64 << 20;
const FACTS_FILE: &str = "case.json";
const SAMPLES_FILE: &str = "samples.gz";
const EXPECTED_FILE: &str = "expected.txt";

/// One recorded program.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub facts: Facts,
    pub samples: Vec<Sample>,
}

/// What is known of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// How it was built.
    pub program: String,
    pub machine: Machine,
    /// The calls that its source makes, outermost last; see [`crate::chain_breach`].
    pub chain: Vec<String>,
    /// How many samples may end before the root, and why they do.
    pub incomplete_max: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incomplete_why: String,
    /// Where the process' first stack began; 0 when it is not known.
    #[serde(default)]
    pub stack_start: u64,
    /// Executable mappings by address.
    pub mappings: Vec<MappedFile>,
}

/// Whose registers these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    X86_64,
    Aarch64,
}

/// An executable mapping; `start-end file_offset executable` in hexadecimal numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MappedFile {
    pub start: u64,
    pub end: u64,
    pub file_offset: u64,
    /// Name of the reduced executable; `None` for memory without a file.
    pub executable: Option<String>,
}

/// One moment of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub registers: Registers,
    pub memory: Vec<Region>,
}

/// A piece of its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub address: u64,
    pub bytes: Vec<u8>,
}

impl Case {
    /// Reads the case of a directory.
    ///
    /// # Errors
    /// A file is missing, or is not what [`Self::write`] writes.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FACTS_FILE);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let facts = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let path = dir.join(SAMPLES_FILE);
        let words = compressed::read(&path, SAMPLES_BYTES_MAX)?;
        let samples = decode(&words).with_context(|| path.display().to_string())?;
        let name = dir.file_name().context("a case has a name")?.to_string_lossy().into_owned();
        Ok(Self { name, facts, samples })
    }

    /// All cases, by name.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn read_all(dir: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Writes all but the expected frames into `cases/<name>`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&self, cases: &Path) -> Result<()> {
        let dir = cases.join(&self.name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(FACTS_FILE), serde_json::to_string_pretty(&self.facts)? + "\n")?;
        compressed::write(&dir.join(SAMPLES_FILE), &encode(&self.samples))
    }

    /// The frames that the samples must give, a line for each.
    ///
    /// # Errors
    /// There is no such file.
    pub fn expected(&self, cases: &Path) -> Result<String> {
        let path = cases.join(&self.name).join(EXPECTED_FILE);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Makes the frames that the samples give now the expected ones.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bless(&self, cases: &Path, recorded: &Recorded) -> Result<()> {
        let path = cases.join(&self.name).join(EXPECTED_FILE);
        fs::write(&path, self.lines(recorded)).with_context(|| path.display().to_string())
    }

    /// The frames that the samples give now, a line for each.
    pub fn lines(&self, recorded: &Recorded) -> String {
        self.samples
            .iter()
            .map(|sample| format!("{}\n", recorded.names(self.facts.machine, sample)))
            .collect()
    }

    /// What is wrong with these frames, a line for each sample: a walk that ends before the root, where the facts
    /// do not allow for one more, or that breaks the chain of calls.
    pub fn breaches(&self, recorded: &Recorded) -> Vec<String> {
        let mut incomplete = 0;
        let mut breaches = Vec::new();
        for (index, sample) in self.samples.iter().enumerate() {
            let names = recorded.names(self.facts.machine, sample);
            let breach = if names.end == End::Root {
                chain_breach(&self.facts.chain, &names.names)
            } else {
                incomplete += 1;
                (incomplete > self.facts.incomplete_max).then(|| "ends before the root".to_owned())
            };
            breaches.extend(breach.map(|breach| format!("{} sample {index}: {breach}: {names}", self.name)));
        }
        breaches
    }
}

/// For each sample pc, the general registers, the number of regions, and of each its address, bytes and content.
/// Numbers are little-endian and of 64 bits.
fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |numbers: &[u64], content: &[u8]| {
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(content);
    };
    for sample in samples {
        put(&[sample.registers.pc], &[]);
        put(&sample.registers.general, &[]);
        put(&[sample.memory.len() as u64], &[]);
        for region in &sample.memory {
            put(&[region.address, region.bytes.len() as u64], &region.bytes);
        }
    }
    bytes
}

fn decode(mut rest: &[u8]) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while !rest.is_empty() {
        if samples.len() >= SAMPLES_MAX {
            bail!("more than {SAMPLES_MAX} samples");
        }
        let mut registers = Registers { pc: number(&mut rest)?, general: [0; GENERAL_REGISTERS] };
        for register in &mut registers.general {
            *register = number(&mut rest)?;
        }
        let regions = number(&mut rest)?;
        if regions > REGIONS_MAX {
            bail!("{regions} regions");
        }
        let memory = (0..regions).map(|_| region(&mut rest)).collect::<Result<_>>()?;
        samples.push(Sample { registers, memory });
    }
    Ok(samples)
}

fn number(rest: &mut &[u8]) -> Result<u64> {
    let (number, behind) = rest.split_first_chunk().context("a number is cut")?;
    *rest = behind;
    Ok(u64::from_le_bytes(*number))
}

fn region(rest: &mut &[u8]) -> Result<Region> {
    let (address, bytes) = (number(rest)?, number(rest)?);
    if bytes > REGION_BYTES_MAX {
        bail!("a region of {bytes} bytes");
    }
    let (content, behind) = rest.split_at_checked(bytes as usize).context("a region is cut")?;
    *rest = behind;
    Ok(Region { address, bytes: content.to_vec() })
}

impl From<MappedFile> for String {
    fn from(mapping: MappedFile) -> Self {
        let MappedFile { start, end, file_offset, executable } = mapping;
        format!("{start:x}-{end:x} {file_offset:x} {}", executable.as_deref().unwrap_or("-"))
    }
}

impl TryFrom<String> for MappedFile {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let mut words = text.split_whitespace();
        let (Some(range), Some(offset), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("not `start-end file_offset executable`: {text:?}");
        };
        let (start, end) = range.split_once('-').context("not `start-end`")?;
        let hex = |text| u64::from_str_radix(text, 16).with_context(|| format!("{text:?} is no address"));
        let executable = (name != "-").then(|| name.to_owned());
        Ok(Self { start: hex(start)?, end: hex(end)?, file_offset: hex(offset)?, executable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_was_written() {
        let registers = Registers { pc: 7, general: std::array::from_fn(|number| u64::MAX - number as u64) };
        let memory =
            vec![Region { address: 0x7fff_0000, bytes: vec![1, 2, 3] }, Region { address: 8, bytes: vec![] }];
        let mapping = |executable| MappedFile { start: 0x1000, end: 0x2000, file_offset: 0x30, executable };
        let case = Case {
            name: "some".to_owned(),
            facts: Facts {
                program: "gcc some.c".to_owned(),
                machine: Machine::Aarch64,
                chain: vec!["main".to_owned()],
                incomplete_max: 3,
                incomplete_why: "because".to_owned(),
                stack_start: 0x7fff_1000,
                mappings: vec![mapping(Some("libc.so.6-1234".to_owned())), mapping(None)],
            },
            samples: vec![Sample { registers, memory }, Sample { registers, memory: vec![] }],
        };
        let dir = tempfile::tempdir().unwrap();
        case.write(dir.path()).unwrap();
        let read = Case::read_all(dir.path()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", [case]));
    }

    #[test]
    fn cut_samples_and_lying_lengths_are_errors() {
        let whole = encode(&[Sample {
            registers: Registers { pc: 1, general: [2; GENERAL_REGISTERS] },
            memory: vec![Region { address: 16, bytes: vec![5; 24] }],
        }]);
        assert_eq!(decode(&whole).unwrap().len(), 1);
        for cut in 1..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "{cut} bytes");
        }
        let mut lying = whole;
        let count = 8 * (1 + GENERAL_REGISTERS);
        lying[count..count + 8].fill(0xff);
        assert!(decode(&lying).is_err());
    }
}
