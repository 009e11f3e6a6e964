//! What a piece of telemetry belongs to, filled in as far as it is known.

/// The thing that was observed. Empty or `None` means not known, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Full cgroup path from the hierarchy's root, `/` for the root itself, empty when not known.
    pub cgroup_path: String,
    /// Container id as the runtime writes it, without any `docker://` prefix.
    pub container_id: Option<String>,
    /// Name of the process (the group leader's `comm`), `[kernel]` for kernel threads.
    pub process_name: String,
}
