//! A thread of this machine, stopped by ptrace(2).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::time::{Duration, Instant};

use abi::{GENERAL_REGISTERS, Registers};
use anyhow::{Context, Result, bail};

use crate::maps::{self, Mapped};
use crate::tracee::{self, Guard, Tracee, other_thread};

/// Bit L0 of DR7: stop before the instruction at the address in DR0 (Intel SDM, volume 3, 18.2.4).
const DEBUG_LOCAL_ENABLE_0: u64 = 1;
/// How long it may take to come to an address.
const RUN_TO_LIMIT: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Traced {
    process: Guard,
    thread: libc::pid_t,
    memory: File,
    /// A signal that it gets when it goes on; 0 for none.
    signal: libc::c_int,
}

impl Traced {
    /// Stops a thread where it is.
    pub(crate) fn seize(process: Guard, of_thread: bool) -> Result<Self> {
        let id = process.0.id();
        let thread = if of_thread { other_thread(id)? } else { id };
        let memory = crate::open(&format!("/proc/{id}/mem"))?;
        let mut traced = Self { process, thread: libc::pid_t::try_from(thread)?, memory, signal: 0 };
        traced.request(libc::PTRACE_SEIZE, 0)?;
        traced.stop()?;
        Ok(traced)
    }

    fn request(&self, request: libc::c_uint, data: libc::c_int) -> Result<()> {
        let data = ptr::without_provenance_mut::<libc::c_void>(usize::try_from(data)?);
        // SAFETY: these requests take no pointers; the data is a signal number or 0.
        let result = unsafe { libc::ptrace(request, self.thread, ptr::null_mut::<libc::c_void>(), data) };
        if result == -1 { Err(io::Error::last_os_error()).context("ptrace") } else { Ok(()) }
    }

    fn set_debug_register(&self, number: usize, value: u64) -> Result<()> {
        let field = std::mem::offset_of!(libc::user, u_debugreg) + number * size_of::<u64>();
        let place = ptr::without_provenance_mut::<libc::c_void>(field);
        // SAFETY: the place is an offset and the data a number; neither is followed.
        let result = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, self.thread, place, value) };
        if result == -1 { Err(io::Error::last_os_error()).context("debug registers") } else { Ok(()) }
    }

    /// Interrupts it and waits until it stands.
    fn stop(&mut self) -> Result<()> {
        self.request(libc::PTRACE_INTERRUPT, 0)?;
        while !self.wait()? {
            self.go_on(libc::PTRACE_CONT)?;
        }
        Ok(())
    }

    fn go_on(&mut self, request: libc::c_uint) -> Result<()> {
        let signal = std::mem::take(&mut self.signal);
        self.request(request, signal)
    }

    /// Waits for a stop; false when it is one before the delivery of a signal.
    fn wait(&mut self) -> Result<bool> {
        self.poll(0)?.context("waitpid")
    }

    /// As [`Self::wait`], with options of waitpid(2); `None` when there is no stop yet.
    fn poll(&mut self, options: libc::c_int) -> Result<Option<bool>> {
        let mut status = 0;
        // SAFETY: `status` lives.
        match unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL | options) } {
            0 => return Ok(None),
            thread if thread == self.thread => {}
            _ => return Err(io::Error::last_os_error()).context("waitpid"),
        }
        if !libc::WIFSTOPPED(status) {
            bail!("the thread ended");
        }
        let signal = libc::WSTOPSIG(status);
        let is_trap = signal == libc::SIGTRAP || status >> 16 == libc::PTRACE_EVENT_STOP;
        if !is_trap {
            self.signal = signal;
        }
        Ok(Some(is_trap))
    }
}

impl Tracee for Traced {
    fn mappings(&mut self) -> Result<Vec<Mapped>> {
        maps::executable(self.process.0.id())
    }

    fn stack_start(&self) -> Result<u64> {
        tracee::stat(self.process.0.id(), 28)
    }

    fn registers(&mut self) -> Result<Registers> {
        // SAFETY: integers only, for which zeros are valid.
        let mut user: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: `user` is what the request writes.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_GETREGS, self.thread, ptr::null_mut::<libc::c_void>(), &raw mut user)
        };
        if result == -1 {
            return Err(io::Error::last_os_error()).context("registers");
        }
        let mut general = [0; GENERAL_REGISTERS];
        let by_number = [
            user.rax, user.rdx, user.rcx, user.rbx, user.rsi, user.rdi, user.rbp, user.rsp, user.r8, user.r9,
            user.r10, user.r11, user.r12, user.r13, user.r14, user.r15,
        ];
        general.iter_mut().zip(by_number).for_each(|(register, value)| *register = value);
        Ok(Registers { pc: user.rip, general })
    }

    fn read(&mut self, address: u64, into: &mut [u8]) -> bool {
        self.memory.read_exact_at(into, address).is_ok()
    }

    fn step(&mut self) -> Result<()> {
        self.go_on(libc::PTRACE_SINGLESTEP)?;
        self.wait()?;
        Ok(())
    }

    fn run_to(&mut self, address: u64) -> Result<()> {
        // A debug register is the thread's own; a breakpoint in the code would be met by all.
        self.set_debug_register(0, address)?;
        self.set_debug_register(7, DEBUG_LOCAL_ENABLE_0)?;
        self.go_on(libc::PTRACE_CONT)?;
        let begin = Instant::now();
        loop {
            match self.poll(libc::WNOHANG)? {
                Some(true) => break,
                Some(false) => self.go_on(libc::PTRACE_CONT)?,
                // An exception passed the address by.
                None if begin.elapsed() > RUN_TO_LIMIT => {
                    self.stop()?;
                    break;
                }
                None => std::thread::sleep(POLL_INTERVAL),
            }
        }
        self.set_debug_register(7, 0)
    }

    fn run(&mut self, time: Duration) -> Result<()> {
        self.go_on(libc::PTRACE_CONT)?;
        std::thread::sleep(time);
        self.stop()
    }
}
