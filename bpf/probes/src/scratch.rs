//! Where one sample is put together, handed from program to program.

use abi::{Image, KERNEL_FRAMES_MAX, Registers, StackEvent, USER_FRAMES_MAX};
use unwind::Walk;

use crate::{cache::Cache, maps::SCRATCH, registers::PtRegs, tables::Lookup};

/// Room for the frames of both halves, and for the one place that masked indices reach behind them.
const FRAMES: usize = KERNEL_FRAMES_MAX + USER_FRAMES_MAX + 2;
const _: () = assert!((KERNEL_FRAMES_MAX + 1).is_power_of_two() && (USER_FRAMES_MAX + 1).is_power_of_two());
/// A per-CPU value may have no more (mm/percpu.c, PCPU_MIN_UNIT_SIZE).
const _: () = assert!(size_of::<Scratch>() <= 32_768);

/// One CPU's sample. What it holds is of the last sample until it is written.
#[repr(C)]
pub(crate) struct Scratch {
    pub(crate) event: StackEvent,
    /// Kernel frames, then user frames: as they are sent, right behind the event.
    pub(crate) frames: [u64; FRAMES],
    pub(crate) kernfs_node: u64,
    /// The group leader's `task_struct`.
    pub(crate) leader: u64,
    pub(crate) pt_regs: PtRegs,
    /// As they were when the thread left user mode.
    pub(crate) registers: Registers,
    pub(crate) image: Image,
    pub(crate) walk: Walk,
    pub(crate) lookup: Lookup,
    /// Outlives the sample.
    pub(crate) cache: Cache,
}

impl Scratch {
    /// This CPU's.
    #[inline(always)]
    pub(crate) fn get() -> Option<&'static mut Self> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: a per-CPU value, and the programs cannot be entered twice on one CPU (bpf_prog_active).
        Some(unsafe { &mut *scratch })
    }

    /// The number of kernel frames, bounded where the verifier sees it: read back from memory, so that the
    /// compiler cannot know it and keeps the mask. Kernels before 6.12 do not carry a bound to a copied
    /// register.
    #[inline(always)]
    pub(crate) fn kernel_frames(&self) -> usize {
        // SAFETY: a valid reference; volatile for the reason above.
        let frames = unsafe { core::ptr::read_volatile(&raw const self.event.kernel_frames) };
        frames as usize & KERNEL_FRAMES_MAX
    }

    /// As [`Self::kernel_frames`], for the user half.
    #[inline(always)]
    pub(crate) fn user_frames(&self) -> usize {
        // SAFETY: a valid reference; volatile for the same reason.
        let frames = unsafe { core::ptr::read_volatile(&raw const self.event.user_frames) };
        frames as usize & USER_FRAMES_MAX
    }

    /// Where the user frame of this number lies.
    #[inline(always)]
    pub(crate) fn user_frame(&mut self, number: usize) -> *mut u64 {
        let index = self.kernel_frames() + (number & USER_FRAMES_MAX);
        // SAFETY: both are masked, and the array has room for their largest sum.
        unsafe { self.frames.as_mut_ptr().add(index) }
    }
}
