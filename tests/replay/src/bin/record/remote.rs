//! An aarch64 program in QEMU's user mode, through its GDB stub (GDB manual, appendix E: Remote Serial Protocol).

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use abi::{GENERAL_REGISTERS, Registers};
use anyhow::{Context, Result, bail};
use object::elf::EM_AARCH64;

use crate::maps::{self, Mapped};
use crate::tracee::{self, Guard, Tracee};

/// Where Debian's cross libraries lie.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Its own, so that one stub is not taken for another.
const PORTS: std::ops::Range<u16> = 21_000..29_000;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of memory asked for at once.
const READ_BYTES_MAX: usize = 1024;
/// Nothing else sends it; the stub stops the program for it and does not deliver it.
const STOP_SIGNAL: libc::c_int = libc::SIGUSR2;

#[derive(Debug)]
pub(crate) struct Remote {
    process: Guard,
    stub: BufReader<TcpStream>,
}

impl Remote {
    /// Starts the program, lets it run for a while and stops it.
    pub(crate) fn start(path: &str, argument: &str, warm_up_ms: u64) -> Result<Self> {
        let port = fastrand::u16(PORTS);
        let mut command = Command::new("qemu-aarch64");
        // A CPU that signs return addresses where the program asks for it.
        command.args(["-L", LIBRARIES, "-cpu", "max", "-g", &port.to_string(), path, argument]);
        let process = tracee::spawn(&mut command).context("qemu-aarch64 (Debian package qemu-user)")?;
        let begin = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > CONNECT_LIMIT => return Err(error).context("QEMU's stub"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        let mut remote = Self { process, stub: BufReader::new(stream) };
        remote.ask("?")?;
        remote.send("c")?;
        tracee::warm_up(&remote.process, warm_up_ms)?;
        remote.stop()?;
        Ok(remote)
    }

    fn stop(&mut self) -> Result<()> {
        let process = libc::pid_t::try_from(self.process.0.id())?;
        // The first thread: the stub loses its way when it stands and others run.
        // SAFETY: integers only.
        if unsafe { libc::syscall(libc::SYS_tgkill, process, process, STOP_SIGNAL) } != 0 {
            return Err(std::io::Error::last_os_error()).context("tgkill");
        }
        self.stopped()
    }

    /// Waits until it says that the program stands.
    fn stopped(&mut self) -> Result<()> {
        let answer = self.answer()?;
        if answer.starts_with('T') || answer.starts_with('S') {
            Ok(())
        } else {
            bail!("the program ended: {answer}")
        }
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.answer()
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.stub.get_mut().write_all(format!("${packet}#{sum:02x}").as_bytes())?;
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        while self.byte()? != b'$' {}
        let mut packet = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte if packet.len() < ANSWER_BYTES_MAX => packet.push(byte),
                _ => bail!("an answer of more than {ANSWER_BYTES_MAX} bytes"),
            }
        }
        self.byte()?;
        self.byte()?;
        self.stub.get_mut().write_all(b"+")?;
        Ok(String::from_utf8(packet)?)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stub.read_exact(&mut byte).context("QEMU's stub")?;
        Ok(byte[0])
    }

    fn read_some(&mut self, address: u64, into: &mut [u8]) -> Result<()> {
        let answer = self.ask(&format!("m{address:x},{:x}", into.len()))?;
        let bytes = hex(&answer).filter(|bytes| bytes.len() == into.len()).context("memory")?;
        into.copy_from_slice(&bytes);
        Ok(())
    }
}

impl Tracee for Remote {
    fn mappings(&mut self) -> Result<Vec<Mapped>> {
        maps::emulated(self.process.0.id(), EM_AARCH64)
    }

    fn stack_start(&self) -> Result<u64> {
        // The process is the emulator, and this would be its own.
        Ok(0)
    }

    fn registers(&mut self) -> Result<Registers> {
        let bytes = hex(&self.ask("g")?).context("registers")?;
        let mut words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
        let mut general = [0; GENERAL_REGISTERS];
        for register in &mut general {
            *register = words.next().context("too few registers")?;
        }
        Ok(Registers { pc: words.next().context("no pc")?, general })
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        let mut at = address;
        into.chunks_mut(READ_BYTES_MAX).all(|part| {
            let read = self.read_some(at, part);
            at = at.wrapping_add(part.len() as u64);
            read.is_ok()
        })
    }

    fn step(&mut self) -> Result<()> {
        self.send("s")?;
        self.stopped()
    }

    fn run_to(&mut self, address: u64) -> Result<()> {
        self.ask(&format!("Z0,{address:x},4"))?;
        self.send("c")?;
        self.stopped()?;
        self.ask(&format!("z0,{address:x},4"))?;
        Ok(())
    }

    fn run(&mut self, time: Duration) -> Result<()> {
        self.send("c")?;
        std::thread::sleep(time);
        self.stop()
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
