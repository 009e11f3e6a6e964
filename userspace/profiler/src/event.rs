//! What arrives by ring buffer, decoded from bytes.

use abi::{
    CGROUP_LEVELS_MAX, CGROUP_RUNS_DEEPER, CgroupEvent, EVENT_CGROUP, EVENT_RAW, EVENT_STACK, End,
    KERNEL_FRAMES_MAX, RAW_STACK_BYTES_MAX, RawEvent, Registers, StackEvent, StackKey, USER_FRAMES_MAX,
};

use crate::process::ImageKey;

const FRAME_BYTES: usize = size_of::<u64>();

/// A decoded record.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Stack(Stack),
    Raw(Box<Raw>),
    Cgroup { id: u64, path: String },
}

/// A stack at first sight.
#[derive(Debug, PartialEq, Eq)]
pub struct Stack {
    pub key: StackKey,
    /// The process id in this process's own PID namespace, if it can be seen from here.
    pub visible_tgid: Option<u32>,
    pub task_flags: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub start_time_ns: u64,
    pub cgroup_id: u64,
    pub comm: String,
    /// Why the user half ends where it does.
    pub end: End,
    /// Addresses, leaf first.
    pub kernel: Vec<u64>,
    /// Leaf first, each [`abi::file_frame`] or an address: of the call, not of the return.
    pub user: Vec<u64>,
}

impl Stack {
    /// The process image it is of.
    pub(crate) fn image_key(&self) -> ImageKey {
        ImageKey { tgid: self.key.tgid, exec_id: self.key.exec_id, start_time_ns: self.start_time_ns }
    }
}

/// One sample that the kernel could not unwind, counted by nobody else.
#[derive(Debug, PartialEq, Eq)]
pub struct Raw {
    /// Without a hash and user frames; `end` is why.
    pub stack: Stack,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Where the process's first stack began; 0 when it is not known.
    pub stack_start: u64,
    pub registers: Registers,
    /// From the stack pointer upwards, [`RAW_STACK_BYTES_MAX`] at most.
    pub memory: Box<[u8]>,
}

/// Decodes one record; `None` for one that is none of ours.
pub fn decode(bytes: &[u8]) -> Option<Event> {
    match u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) {
        EVENT_STACK => stack(bytes).map(Event::Stack),
        EVENT_RAW => raw(bytes).map(|raw| Event::Raw(Box::new(raw))),
        EVENT_CGROUP => cgroup(bytes),
        _ => None,
    }
}

fn stack(bytes: &[u8]) -> Option<Stack> {
    let (header, frames) = bytes.split_at_checked(size_of::<StackEvent>())?;
    // SAFETY: as many bytes as the struct has; integers and byte arrays only, every bit pattern is valid.
    let header = unsafe { header.as_ptr().cast::<StackEvent>().read_unaligned() };
    let (kernel, user) = (header.kernel_frames as usize, header.user_frames as usize);
    if kernel > KERNEL_FRAMES_MAX || user > USER_FRAMES_MAX {
        return None;
    }
    let (kernel, user) = frames.get(..(kernel + user) * FRAME_BYTES)?.split_at(kernel * FRAME_BYTES);
    identified(&header, addresses(kernel), addresses(user))
}

fn raw(bytes: &[u8]) -> Option<Raw> {
    let (header, memory) = bytes.split_at_checked(size_of::<RawEvent>())?;
    // SAFETY: as many bytes as the struct has; integers and byte arrays only, every bit pattern is valid.
    let header = unsafe { header.as_ptr().cast::<RawEvent>().read_unaligned() };
    let (kernel, memory_bytes) = (header.stack.kernel_frames as usize, header.stack_bytes as usize);
    if kernel > KERNEL_FRAMES_MAX || memory_bytes > RAW_STACK_BYTES_MAX {
        return None;
    }
    Some(Raw {
        stack: identified(&header.stack, header.kernel.get(..kernel)?.to_vec(), Vec::new())?,
        time_ns: header.time_ns,
        stack_start: header.stack_start,
        registers: header.registers,
        memory: memory.get(..memory_bytes)?.into(),
    })
}

fn identified(header: &StackEvent, kernel: Vec<u64>, user: Vec<u64>) -> Option<Stack> {
    Some(Stack {
        key: StackKey { hash: header.hash, tgid: header.tgid, exec_id: header.exec_id },
        visible_tgid: (header.visible_tgid != 0).then_some(header.visible_tgid),
        task_flags: header.task_flags,
        start_time_ns: header.start_time_ns,
        cgroup_id: header.cgroup_id,
        comm: text(&header.comm),
        end: End::from_number(header.end)?,
        kernel,
        user,
    })
}

fn cgroup(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<CgroupEvent>() {
        return None;
    }
    // SAFETY: as many bytes as the struct has; integers and byte arrays only, every bit pattern is valid.
    let event = unsafe { bytes.as_ptr().cast::<CgroupEvent>().read_unaligned() };
    let levels = ((event.levels & !CGROUP_RUNS_DEEPER) as usize).min(CGROUP_LEVELS_MAX);
    let mut path = String::new();
    if event.levels & CGROUP_RUNS_DEEPER != 0 {
        path.push_str("/…");
    }
    for name in event.names[..levels].iter().rev() {
        path.push('/');
        path.push_str(&text(name));
    }
    if path.is_empty() {
        path.push('/');
    }
    Some(Event::Cgroup { id: event.cgroup_id, path })
}

fn addresses(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<FRAME_BYTES>().0.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack_bytes(kernel: &[u64], user: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [EVENT_STACK, 7] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(0xabcd_u64.to_ne_bytes());
        bytes.extend(42u32.to_ne_bytes());
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend(41u32.to_ne_bytes());
        bytes.extend((End::FrameLimit as u32).to_ne_bytes());
        bytes.extend(99u64.to_ne_bytes());
        bytes.extend(17u64.to_ne_bytes());
        bytes.extend((kernel.len() as u32).to_ne_bytes());
        bytes.extend((user.len() as u32).to_ne_bytes());
        bytes.extend(b"worker\0garbage..");
        for address in kernel.iter().chain(user) {
            bytes.extend(address.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_stack_keeps_kernel_and_user_frames_apart_and_in_order() {
        let Some(Event::Stack(stack)) = decode(&stack_bytes(&[1, 2], &[3, 4, 5])) else {
            panic!("not a stack");
        };
        assert_eq!(stack.key, StackKey { hash: 0xabcd, tgid: 42, exec_id: 3 });
        assert_eq!(stack.visible_tgid, Some(41));
        assert_eq!((stack.task_flags, stack.start_time_ns, stack.cgroup_id), (7, 99, 17));
        assert_eq!((stack.comm.as_str(), stack.end), ("worker", End::FrameLimit));
        assert_eq!((stack.kernel, stack.user), (vec![1, 2], vec![3, 4, 5]));
    }

    fn raw_bytes(kernel: &[u64], memory: &[u8]) -> Vec<u8> {
        let mut bytes = stack_bytes(kernel, &[]);
        bytes.truncate(size_of::<StackEvent>());
        bytes[..4].copy_from_slice(&EVENT_RAW.to_ne_bytes());
        bytes.extend(77u64.to_ne_bytes());
        bytes.extend(88u64.to_ne_bytes());
        bytes.extend((memory.len() as u32).to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        for word in 0..=abi::GENERAL_REGISTERS as u64 {
            bytes.extend((1000 + word).to_ne_bytes());
        }
        for index in 0..=KERNEL_FRAMES_MAX {
            bytes.extend(kernel.get(index).copied().unwrap_or(0).to_ne_bytes());
        }
        bytes.extend(memory);
        bytes
    }

    #[test]
    fn a_raw_sample_has_its_registers_kernel_frames_and_memory() {
        let Some(Event::Raw(raw)) = decode(&raw_bytes(&[8, 9], b"stack")) else {
            panic!("not a raw sample");
        };
        assert_eq!(
            (raw.stack.key.tgid, raw.stack.end, raw.time_ns, raw.stack_start),
            (42, End::FrameLimit, 77, 88)
        );
        assert_eq!((raw.registers.pc, raw.registers.general[31]), (1000, 1032));
        assert_eq!(
            (raw.stack.kernel.as_slice(), raw.stack.user.as_slice()),
            ([8, 9].as_slice(), [].as_slice())
        );
        assert_eq!(&*raw.memory, b"stack");
    }

    #[test]
    fn a_record_cut_anywhere_is_refused_and_never_panics() {
        for bytes in [stack_bytes(&[1, 2], &[3]), raw_bytes(&[1], b"12345678")] {
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn numbers_that_no_program_of_ours_sends_are_refused() {
        let of = |offset: usize, number: u32, mut bytes: Vec<u8>| {
            bytes[offset..offset + 4].copy_from_slice(&number.to_ne_bytes());
            decode(&bytes)
        };
        let end = std::mem::offset_of!(StackEvent, end);
        assert_eq!(of(end, End::ALL.len() as u32, stack_bytes(&[1], &[2])), None);
        let kernel_frames = std::mem::offset_of!(StackEvent, kernel_frames);
        assert_eq!(of(kernel_frames, KERNEL_FRAMES_MAX as u32 + 1, raw_bytes(&[], &[0; 64])), None);
        let memory_bytes = std::mem::offset_of!(RawEvent, stack_bytes);
        let large = vec![0; RAW_STACK_BYTES_MAX + 1];
        assert_eq!(of(memory_bytes, large.len() as u32, raw_bytes(&[], &large)), None);
    }

    #[test]
    fn a_cgroup_path_is_put_together_from_the_root() {
        let mut event = vec![0u8; size_of::<CgroupEvent>()];
        event[..4].copy_from_slice(&EVENT_CGROUP.to_ne_bytes());
        event[4..8].copy_from_slice(&2u32.to_ne_bytes());
        event[8..16].copy_from_slice(&5u64.to_ne_bytes());
        event[16..20].copy_from_slice(b"leaf");
        event[16 + 128..16 + 128 + 6].copy_from_slice(b"parent");
        assert_eq!(decode(&event), Some(Event::Cgroup { id: 5, path: "/parent/leaf".into() }));
        event[4..8].copy_from_slice(&0u32.to_ne_bytes());
        assert_eq!(decode(&event), Some(Event::Cgroup { id: 5, path: "/".into() }));
        event[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(decode(&event), Some(Event::Cgroup { path, .. }) if path.starts_with("/…/")));
    }
}
