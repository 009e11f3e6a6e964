//! tracefs for a program that cannot do without it, on a machine that has not mounted it.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;

/// Where programs look for it; a folder of events says that it is mounted.
const EVENTS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

/// Lets the command see tracefs. Where it is not mounted, the command gets a mount namespace of its own with tracefs in
/// it: no other process sees that mount, and the kernel removes it with the last process inside.
pub(super) fn give(command: &mut Command) {
    if EVENTS.iter().any(|events| Path::new(events).is_dir()) {
        return;
    }
    // SAFETY: the closure allocates nothing and makes only system calls.
    unsafe { command.pre_exec(mount_privately) };
}

fn mount_privately() -> io::Result<()> {
    let none = ptr::null::<libc::c_char>();
    // SAFETY: every pointer is null where that is allowed, or to a NUL-terminated literal.
    let is_mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            // Or the mount would reach the namespace this one was copied from.
            && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(
                c"tracefs".as_ptr(),
                c"/sys/kernel/tracing".as_ptr(),
                c"tracefs".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                ptr::null(),
            ) == 0
    };
    if is_mounted { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process, setup};

    #[test]
    fn the_command_sees_tracefs_and_this_process_does_not_gain_it() {
        if !setup::is_root() {
            println!("skipped: mounting needs root");
            return;
        }
        let before = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "ls -d /sys/kernel/tracing/events /sys/kernel/debug/tracing/events; true"]);
        give(&mut command);
        let seen = process::capture(&mut command).unwrap();
        assert!(seen.contains("tracing/events"), "{seen}");
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), before);
    }
}
