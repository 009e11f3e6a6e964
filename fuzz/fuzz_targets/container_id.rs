//! Which container a cgroup's path names; containers choose the names of cgroups below their own.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let Some(container) = enrich::container_id(path) else { return };
    assert!(path.split('/').any(|component| component.contains(&container.id)), "{container:?}");
    assert!(!container.id.is_empty() && !container.id.contains('/'), "{container:?}");
    if let Some(uid) = container.pod_uid {
        assert!([32, 36].contains(&uid.len()), "{uid}");
    }
});
