//! Which container a cgroup belongs to, from its path alone.
//!
//! A path is read from its root. The last component that names a container wins, so that of a
//! container in a container the inner one is meant, while cgroups which a container makes for its
//! own use (`init.scope`, `system.slice/app.service`) still belong to it.
//!
//! What names a container, by who made the cgroup:
//!
//! | who | component |
//! |---|---|
//! | containerd under the kubelet | `cri-containerd-<64 hex>.scope`; `<64 hex>` right below `pod<uid>` (cri-dockerd's looks the same); `<slice>:cri-containerd:<64 hex>` where kubelet and runtime disagree on the driver |
//! | CRI-O | `crio-<64 hex>[.scope]`; not `crio-conmon-<64 hex>.scope`, its monitor outside |
//! | Docker | `docker-<64 hex>.scope`; `<64 hex>` right below `docker` |
//! | Podman | `libpod-<64 hex>[.scope]`; not `libpod-conmon-<64 hex>.scope` |
//! | nerdctl | `nerdctl-<64 hex>.scope` |
//! | ECS | `<64 hex>`, `<32 hex>` or `<32 hex>-<digits>` two below `ecs` |
//! | containerd by itself | `/<namespace>/<any name>` at the root, in a well-known namespace: its default |
//! | anybody else | `<64 hex>`, of unknown runtime |

/// Namespaces of containerd whose second component at the root is a container, whatever its name.
const CONTAINERD_NAMESPACES: [&str; 4] = ["default", "k8s.io", "moby", "buildkit"];

const SHA256_HEX: usize = 64;
const UUID_HEX: usize = 32;

/// What runtimes put before the id.
const PREFIXES: [(&str, Runtime); 5] = [
    ("cri-containerd-", Runtime::Containerd),
    ("crio-", Runtime::Crio),
    ("docker-", Runtime::Docker),
    ("libpod-", Runtime::Podman),
    ("nerdctl-", Runtime::Containerd),
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
    let pod_uid = components[..=depth].iter().rev().find_map(|component| pod_uid(component));
    Some(ContainerId { id: id.to_owned(), runtime, pod_uid })
}

/// The container that the component at `depth` names.
fn container_at<'a>(components: &[&'a str], depth: usize) -> Option<(&'a str, Runtime)> {
    let component = components[depth];
    let above = |levels: usize| depth.checked_sub(levels).map(|at| components[at]);
    if let Some(prefixed) = prefixed_id(component) {
        return Some(prefixed);
    }
    if component.ends_with(".scope") {
        return None;
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
        Some(parent) if pod_uid(parent).is_some() => Runtime::Containerd,
        _ => Runtime::Unknown,
    };
    Some((component, runtime))
}

fn prefixed_id(component: &str) -> Option<(&str, Runtime)> {
    // `<slice>:<prefix>:<id>` is the systemd driver's notation, taken literally by the other driver.
    if let Some((rest, id)) = component.rsplit_once(':') {
        let prefix = rest.rsplit(':').next()?;
        let (_, runtime) = PREFIXES.iter().find(|(known, _)| known.strip_suffix('-') == Some(prefix))?;
        return is_hex(id, SHA256_HEX).then_some((id, *runtime));
    }
    let unit = component.strip_suffix(".scope").unwrap_or(component);
    PREFIXES.iter().find_map(|(prefix, runtime)| {
        let id = unit.strip_prefix(prefix)?;
        is_hex(id, SHA256_HEX).then_some((id, *runtime))
    })
}

/// The uid in `pod<uid>`, `kubepods-pod<uid>.slice` or `kubepods-<class>-pod<uid>.slice` (with more
/// before it where the kubelet has a root of its own). Systemd's escaping has turned each `-` of the
/// uid into `_`.
fn pod_uid(component: &str) -> Option<String> {
    let slice = component.split(':').next()?.strip_suffix(".slice");
    let uid = match slice {
        Some(slice) if slice.contains("kubepods-") => slice.rsplit('-').next()?.strip_prefix("pod")?,
        Some(_) => return None,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f4e0bb1c2d35a9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e";
    const OUTER: &str = "a0d1c2b3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f";
    const UID: &str = "1b0c2f5e-7d3a-4c8b-9f6e-0a1b2c3d4e5f";
    const UID_SYSTEMD: &str = "1b0c2f5e_7d3a_4c8b_9f6e_0a1b2c3d4e5f";
    const STATIC_UID: &str = "6a8f3bb2f1c04d5e9a7b8c9d0e1f2a3b";
    const FARGATE_ID: &str = "0f9de17a6465404e8b1b2356dc13c2f8-2531612879";

    /// In a path: `ID`, `OUTER`, `UID`, `UID_SYSTEMD` and so on stand for the constants.
    fn fill(path: &str) -> String {
        path.replace("{id}", ID)
            .replace("{outer}", OUTER)
            .replace("{uid}", UID)
            .replace("{uid_systemd}", UID_SYSTEMD)
            .replace("{static}", STATIC_UID)
            .replace("{fargate}", FARGATE_ID)
    }

    #[test]
    fn every_layout_gives_its_container() {
        use Runtime::{Containerd, Crio, Docker, Ecs, Podman, Unknown};
        #[rustfmt::skip]
        let cases: [(&str, &str, Runtime, Option<&str>); 34] = [
            // containerd under the kubelet: systemd, cgroupfs, and the two mixed.
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_systemd}.slice/cri-containerd-{id}.scope", ID, Containerd, Some(UID)),
            ("/kubepods.slice/kubepods-pod{uid_systemd}.slice/cri-containerd-{id}.scope", ID, Containerd, Some(UID)),
            ("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{static}.slice/cri-containerd-{id}.scope", ID, Containerd, Some(STATIC_UID)),
            ("/kubepods/besteffort/pod{uid}/{id}", ID, Containerd, Some(UID)),
            ("/kubepods/pod{uid}/{id}", ID, Containerd, Some(UID)),
            ("/kubepods/burstable/pod{static}/{id}", ID, Containerd, Some(STATIC_UID)),
            ("/system.slice/containerd.service/kubepods-besteffort-pod{uid_systemd}.slice:cri-containerd:{id}", ID, Containerd, Some(UID)),
            // containerd by itself: any name, in a known namespace.
            ("/k8s.io/{id}", ID, Containerd, None),
            ("/default/redis-server", "redis-server", Containerd, None),
            ("/default/test.1_a", "test.1_a", Containerd, None),
            ("/moby/{id}", ID, Containerd, None),
            ("/buildkit/k3v1q9xw", "k3v1q9xw", Containerd, None),
            ("/default/redis-server/init.scope", "redis-server", Containerd, None),
            ("/system.slice/nerdctl-{id}.scope", ID, Containerd, None),
            // CRI-O.
            ("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid_systemd}.slice/crio-{id}.scope", ID, Crio, Some(UID)),
            ("/kubepods.slice/kubepods-pod{uid_systemd}.slice/crio-{id}.scope/container", ID, Crio, Some(UID)),
            ("/kubepods/besteffort/pod{uid}/crio-{id}", ID, Crio, Some(UID)),
            // Docker.
            ("/system.slice/docker-{id}.scope", ID, Docker, None),
            ("/docker/{id}", ID, Docker, None),
            ("/docker/{id}/init.scope", ID, Docker, None),
            ("/system.slice/docker-{id}.scope/system.slice/nginx.service", ID, Docker, None),
            ("/kubepods.slice/kubepods-pod{uid_systemd}.slice/docker-{id}.scope", ID, Docker, Some(UID)),
            // Podman, as root and not, and with cgroupfs.
            ("/machine.slice/libpod-{id}.scope", ID, Podman, None),
            ("/machine.slice/libpod-{id}.scope/container", ID, Podman, None),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope", ID, Podman, None),
            ("/libpod_parent/libpod-{id}", ID, Podman, None),
            // ECS on EC2 and on Fargate.
            ("/ecs/0f9de17a6465404e8b1b2356dc13c2f8/{id}", ID, Ecs, None),
            ("/ecs/0f9de17a6465404e8b1b2356dc13c2f8/{fargate}", FARGATE_ID, Ecs, None),
            ("/ecs/0f9de17a6465404e8b1b2356dc13c2f8/{static}", STATIC_UID, Ecs, None),
            // A container in a container: kind's two layouts, and Docker in a pod.
            ("/system.slice/docker-{outer}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{uid_systemd}.slice/cri-containerd-{id}.scope", ID, Containerd, Some(UID)),
            ("/docker/{outer}/kubelet/kubepods/burstable/pod{uid}/{id}", ID, Containerd, Some(UID)),
            ("/kubepods/burstable/pod{uid}/{outer}/docker/{id}", ID, Docker, Some(UID)),
            // The monitor inside a node that is itself a container belongs to that node.
            ("/docker/{id}/kubepods.slice/crio-conmon-{outer}.scope", ID, Docker, None),
            // Somebody's own parent.
            ("/batch/jobs/{id}", ID, Unknown, None),
        ];
        for (path, id, runtime, pod_uid) in cases {
            let path = fill(path);
            let found = container_id(&path);
            let expected = ContainerId { id: id.to_owned(), runtime, pod_uid: pod_uid.map(str::to_owned) };
            assert_eq!(found, Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_gives_none() {
        let paths = [
            "",
            "/",
            "/init.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/system.slice/system-getty.slice/getty@tty1.service",
            "/kubepods.slice",
            "/kubepods/besteffort/pod{uid}",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid_systemd}.slice",
            "/kubepods.slice/kubepods-pod{uid_systemd}.slice/crio-conmon-{id}.scope",
            "/machine.slice/libpod-conmon-{id}.scope",
            "/libpod_parent/conmon",
            "/docker",
            "/default",
            "/k8s.io",
            "/other/redis-server",
            "/a/default/redis-server",
            "/ecs/0f9de17a6465404e8b1b2356dc13c2f8",
            "/system.slice/docker-{id}.service",
            "/system.slice/docker-{id}0.scope",
            "/x{id}",
        ];
        for path in paths {
            assert_eq!(container_id(&fill(path)), None, "{path}");
        }
        assert_eq!(container_id(&format!("/docker/{}", &ID[1..])), None, "63 digits");
        assert_eq!(
            container_id(&format!("/docker/{}", ID.to_uppercase())),
            None,
            "no runtime writes capitals"
        );
        let short = format!("/system.slice/cri-containerd-{}.scope", &ID[1..]);
        assert_eq!(container_id(&short), None, "63 digits");
    }

    /// Paths made of the pieces that mean something, in any order.
    fn path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("kubepods".to_owned()),
            Just("ecs".to_owned()),
            Just("default".to_owned()),
            Just("docker".to_owned()),
            Just(fill("pod{uid}")),
            Just(fill("{id}")),
            Just(fill("{fargate}")),
            Just(fill("crio-{id}.scope")),
            Just(fill("crio-conmon-{id}.scope")),
            Just(fill("kubepods-pod{uid_systemd}.slice:cri-containerd:{id}")),
            "[a-f0-9]{0,70}",
            "(crio|docker|libpod)-[a-f0-9]{60,66}(\\.scope)?",
            ".{0,12}",
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.join("/")))
    }

    proptest! {
        #[test]
        fn an_id_is_always_a_part_of_the_path(path in path()) {
            if let Some(found) = container_id(&path) {
                prop_assert!(!found.id.is_empty());
                prop_assert!(path.contains(&found.id), "{} in {}", found.id, path);
                if let Some(uid) = found.pod_uid {
                    prop_assert!(path.replace('_', "-").contains(&uid));
                }
            }
        }

        #[test]
        fn what_a_container_makes_below_itself_belongs_to_it(path in path(), below in "[a-z]{1,12}\\.(service|slice)") {
            if let Some(found) = container_id(&path) {
                prop_assert_eq!(container_id(&format!("{path}/{below}")), Some(found));
            }
        }

        #[test]
        fn any_text_is_taken(path in ".*") {
            let found = container_id(&path);
            prop_assert!(found.is_none_or(|found| path.contains(&found.id)));
        }
    }
}
