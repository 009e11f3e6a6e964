//! Which container a cgroup belongs to, from its path alone.
//!
//! A path is read from its root. The last component that names a container wins, so that of a
//! container in a container the inner one is meant, while cgroups which a container makes for its
//! own use (`init.scope`, `system.slice/app.service`) still belong to it.
//!
//! What names a container, by who made the cgroup:
//!
//! | layout | component |
//! |---|---|
//! | containerd under the kubelet, systemd | `cri-containerd-<64 hex>.scope` |
//! | the kubelet with cgroupfs (any runtime) | `<64 hex>` below `pod<uid>` |
//! | CRI-O | `crio-<64 hex>.scope`; not `crio-conmon-<64 hex>.scope`, its monitor outside |
//! | Docker | `docker-<64 hex>.scope`, or `<64 hex>` below `docker` |
//! | Podman | `libpod-<64 hex>.scope`; not `libpod-conmon-<64 hex>.scope` |
//! | ECS | `<32 or 64 hex>` or `<32 hex>-<digits>` two below `ecs` |
//! | containerd by itself (`ctr run`, BuildKit) | `/<namespace>/<any name>` at the root, in a well-known namespace |
//! | anything else | `<64 hex>`, of unknown runtime |

/// Namespaces of containerd whose second component at the root is a container, whatever its name.
const CONTAINERD_NAMESPACES: [&str; 4] = ["default", "k8s.io", "moby", "buildkit"];

const SHA256_HEX: usize = 64;
const UUID_HEX: usize = 32;

/// Units by systemd that hold a container: prefix and runtime.
const SCOPES: [(&str, Runtime); 4] = [
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
];

/// Who runs a container, as far as the path tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Runtime {
    Containerd,
    Crio,
    Docker,
    Podman,
    Ecs,
    /// The path names the container and not who runs it.
    Unknown,
}

/// A container, as its cgroup's path names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId {
    /// As the runtime writes it, without any prefix.
    pub id: String,
    pub runtime: Runtime,
    /// The pod's uid in the API server's form, with dashes; for a static pod its 32 hex digits.
    pub pod_uid: Option<String>,
}

/// The container that the cgroup at `cgroup_path` belongs to: a full path from the root of the
/// hierarchy. `None` when it belongs to none.
pub fn container_id(cgroup_path: &str) -> Option<ContainerId> {
    let components: Vec<&str> = cgroup_path.split('/').filter(|part| !part.is_empty()).collect();
    let (depth, id, runtime) = (0..components.len())
        .rev()
        .find_map(|depth| container_at(&components, depth).map(|(id, runtime)| (depth, id, runtime)))?;
    let pod_uid = components[..depth].iter().rev().find_map(|component| pod_uid(component));
    Some(ContainerId { id: id.to_owned(), runtime, pod_uid })
}

/// The container that the component at `depth` names.
fn container_at<'a>(components: &[&'a str], depth: usize) -> Option<(&'a str, Runtime)> {
    let component = components[depth];
    let above = |levels: usize| depth.checked_sub(levels).map(|at| components[at]);
    if let Some(unit) = component.strip_suffix(".scope") {
        return SCOPES.iter().find_map(|(prefix, runtime)| {
            let id = unit.strip_prefix(prefix)?;
            is_hex(id, SHA256_HEX).then_some((id, *runtime))
        });
    }
    if above(2) == Some("ecs") && (is_ecs_id(component) || is_hex(component, SHA256_HEX)) {
        return Some((component, Runtime::Ecs));
    }
    if depth == 1 && CONTAINERD_NAMESPACES.contains(&components[0]) {
        return Some((component, Runtime::Containerd));
    }
    if !is_hex(component, SHA256_HEX) {
        return None;
    }
    let runtime = match above(1) {
        Some("docker") => Runtime::Docker,
        Some("libpod_parent") => Runtime::Podman,
        _ => Runtime::Unknown,
    };
    Some((component, runtime))
}

/// The uid in `pod<uid>`, `kubepods-pod<uid>.slice` or `kubepods-<class>-pod<uid>.slice`, in which
/// systemd's escaping has turned each `-` into `_`.
fn pod_uid(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods-")?.rsplit('-').next()?.strip_prefix("pod")?,
        None => component.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    (is_uuid(&uid) || is_hex(&uid, UUID_HEX)).then_some(uid)
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(|group| if is_hex(group, group.len()) { group.len() } else { 0 });
    lengths.eq([8, 4, 4, 4, 12])
}

fn is_ecs_id(text: &str) -> bool {
    let (task, number) = text.split_once('-').unwrap_or((text, "0"));
    is_hex(task, UUID_HEX) && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Exactly `digits` lower-case hexadecimal digits, as every runtime writes them.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
