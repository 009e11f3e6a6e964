//! CPython, 3.6 to 3.15.

mod code;
mod debug_offsets;
mod evaluation;
mod lines;
mod offsets;
pub(crate) mod part;
mod table;
mod text;
mod threads;
mod version;

use std::sync::Arc;

use object::elf::EM_X86_64;

use debug_offsets::DebugOffsets;
use offsets::Offsets;
use threads::Threads;
use version::Version;

use crate::{Code, Data, Elf, Error, Function, Instance, Layout, Libc, Loader, Memory, NativeCode, Unnamed};

const NAME: &str = "CPython";
const CODE_TYPE: &str = "PyCode_Type";
const RUNTIME: &str = "_PyRuntime";
const WANTED: [&str; 6] =
    [CODE_TYPE, RUNTIME, evaluation::LOOP, "PyFrame_Type", "Py_Version", "Py_GetVersion"];

/// Recognises CPython by what it exports, whatever the file's name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Python;

/// What is the same in all processes of one file.
#[derive(Debug)]
struct PythonData {
    version: Version,
    code: NativeCode,
    offsets: Offsets,
    threads: Threads,
    /// Link address of `PyCode_Type`.
    code_type: u64,
    /// Link address and first bytes of `_Py_DebugOffsets`, where the file has it.
    told: Option<(u64, [u8; debug_offsets::HEAD_BYTES])>,
}

/// One process.
#[derive(Debug)]
struct PythonInstance {
    offsets: Offsets,
    layout: python::Layout,
}

impl Loader for Python {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_wanted(&self, symbol: &[u8]) -> bool {
        WANTED.iter().any(|wanted| wanted.as_bytes() == symbol) || Threads::is_wanted(symbol)
    }

    fn recognise(&self, elf: &Elf<'_>) -> Result<Option<Arc<dyn Data>>, Error> {
        let (Some(code_type), Some(_)) = (elf.exported(CODE_TYPE), elf.exported(evaluation::LOOP)) else {
            return Ok(None);
        };
        if elf.machine != EM_X86_64 {
            return Err(Error::Machine(elf.machine));
        }
        let version = Version::read(elf)?;
        let told = told(elf);
        if let Some((_, debug, _)) = &told
            && debug.version != version
        {
            let version = format!("{version}, which calls itself {}", debug.version);
            return Err(Error::VersionUnknown { interpreter: NAME, version });
        }
        let offsets = Offsets::read(elf, version, told.as_ref().map(|(_, debug, _)| debug))?;
        Ok(Some(Arc::new(PythonData {
            version,
            code: evaluation::find(elf)?,
            offsets,
            threads: Threads::read(elf, version)?,
            code_type: code_type.address,
            told: told.map(|(at, _, head)| (at, head)),
        })))
    }
}

type Told = (u64, DebugOffsets, [u8; debug_offsets::HEAD_BYTES]);

/// `_Py_DebugOffsets`, at the begin of `_PyRuntime`.
fn told(elf: &Elf<'_>) -> Option<Told> {
    let exported = elf.exported(RUNTIME).map(|symbol| symbol.address);
    let at = exported.or_else(|| Some(elf.section(".PyRuntime")?.start))?;
    let bytes = elf.up_to(at, debug_offsets::BYTES_MAX);
    let head = *bytes.first_chunk()?;
    Some((at, DebugOffsets::parse(&bytes)?, head))
}

impl Data for PythonData {
    fn version(&self) -> String {
        self.version.to_string()
    }

    fn code(&self) -> &NativeCode {
        &self.code
    }

    fn attach(
        &self,
        bias: u64,
        libc: Option<Libc>,
        memory: &mut dyn Memory,
    ) -> Result<Box<dyn Instance>, Error> {
        if let Some((at, head)) = &self.told {
            let at = bias.wrapping_add(*at);
            let mut found = [0; debug_offsets::HEAD_BYTES];
            memory.read(at, &mut found).ok_or(Error::Unreadable(at))?;
            if found != *head {
                return Err(Error::Missing("_Py_DebugOffsets in the process"));
            }
        }
        let [current, bound] = self.threads.attach(bias, libc, memory)?;
        let code_type = bias.wrapping_add(self.code_type);
        let layout = python::Layout { current, bound, code_type, ..self.offsets.layout };
        Ok(Box::new(PythonInstance { offsets: self.offsets, layout }))
    }
}

impl Instance for PythonInstance {
    fn layout(&self) -> Layout {
        Layout::Python(self.layout)
    }

    fn function(&self, code: Code, memory: &mut dyn Memory) -> Result<Function, Unnamed> {
        code::read(&self.offsets, self.layout.code_type, code, memory)
    }
}

#[cfg(test)]
mod tests;
