//! The labels of a profile series.
//!
//! `service_name` is what the first of [`SERVICE_NAME_RULES`] that knows anything says:
//!
//! 1. the process's name
//! 2. `unspecified`
//!
//! A rule that knows more about a process goes before these.

use std::collections::BTreeMap;

use model::{PROFILE_NAME_CPU, Resource};

use crate::{is_valid_label_name, label_value, process_name};

/// Sorted by name, each name once, no empty values (a label without a value is a label that is not
/// there).
pub type Labels = Vec<(String, String)>;

/// Most labels on a series, Pyroscope's default limit. External labels beyond it are left out, the
/// last ones first.
pub const LABELS_MAX: usize = 30;

/// The `service_name` of a process of which nothing is known.
pub const SERVICE_NAME_UNSPECIFIED: &str = "unspecified";

/// What names a service, most specific first.
const SERVICE_NAME_RULES: [fn(&Resource) -> Option<String>; 1] = [service_name_from_process];

/// The labels of the CPU profile of `resource`: `__name__`, `service_name`, `container_id`,
/// `process_name`, `node`, and the configured `external` labels.
///
/// An external label never replaces one that was observed, and is left out when its name is not
/// valid (see [`is_valid_label_name`]; the configuration refuses such names before).
pub fn profile_labels(resource: &Resource, node: &str, external: &[(String, String)]) -> Labels {
    let observed = [
        ("__name__", PROFILE_NAME_CPU.to_owned()),
        ("service_name", service_name(resource)),
        ("container_id", label_value(resource.container_id.as_deref().unwrap_or_default())),
        ("process_name", process_name(resource.process_name.as_bytes())),
        ("node", label_value(node)),
    ];
    let mut labels = BTreeMap::new();
    for (name, value) in observed {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value);
        }
    }
    for (name, value) in external {
        let value = label_value(value);
        if labels.len() < LABELS_MAX && is_valid_label_name(name) && !value.is_empty() {
            labels.entry(name.clone()).or_insert(value);
        }
    }
    labels.into_iter().collect()
}

fn service_name(resource: &Resource) -> String {
    SERVICE_NAME_RULES
        .iter()
        .find_map(|rule| rule(resource))
        .unwrap_or_else(|| SERVICE_NAME_UNSPECIFIED.to_owned())
}

fn service_name_from_process(resource: &Resource) -> Option<String> {
    Some(process_name(resource.process_name.as_bytes())).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resource(process: &str, container: Option<&str>) -> Resource {
        Resource {
            cgroup_path: "/".to_owned(),
            container_id: container.map(str::to_owned),
            process_name: process.to_owned(),
        }
    }

    fn external(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_process_in_a_container_has_every_label() {
        let labels =
            profile_labels(&resource("nginx", Some("3f4e")), "node-1", &external(&[("cluster", "eu")]));
        let expected = [
            ("__name__", "process_cpu"),
            ("cluster", "eu"),
            ("container_id", "3f4e"),
            ("node", "node-1"),
            ("process_name", "nginx"),
            ("service_name", "nginx"),
        ];
        assert_eq!(pairs(&labels), expected);
    }

    #[test]
    fn nothing_known_means_no_label_but_an_unspecified_service() {
        let labels = profile_labels(&resource("", None), "", &[]);
        assert_eq!(pairs(&labels), [("__name__", "process_cpu"), ("service_name", "unspecified")]);
    }

    #[test]
    fn external_labels_never_replace_observed_ones() {
        let configured = external(&[
            ("service_name", "forged"),
            ("node", "forged"),
            ("__name__", "forged"),
            ("zone", "a"),
            ("zone", "b"),
        ]);
        let labels = profile_labels(&resource("app", None), "n", &configured);
        let expected = [
            ("__name__", "process_cpu"),
            ("node", "n"),
            ("process_name", "app"),
            ("service_name", "app"),
            ("zone", "a"),
        ];
        assert_eq!(pairs(&labels), expected);
    }

    #[test]
    fn there_are_never_more_labels_than_a_backend_takes() {
        let many: Vec<_> = (0..100).map(|n| (format!("l{n:03}"), "v".to_owned())).collect();
        let labels = profile_labels(&resource("app", Some("id")), "n", &many);
        assert_eq!(labels.len(), LABELS_MAX);
        assert!(labels.iter().any(|(name, _)| name == "service_name"));
        assert!(labels.iter().any(|(name, _)| name == "l000"));
        assert!(!labels.iter().any(|(name, _)| name == "l099"));
    }

    proptest! {
        #[test]
        fn whatever_is_observed_and_configured_a_backend_takes_the_labels(
            process in ".*", container in proptest::option::of(".*"), node in ".*",
            configured in proptest::collection::vec((".*", ".*"), 0..40),
        ) {
            let labels = profile_labels(&resource(&process, container.as_deref()), &node, &configured);
            prop_assert!(labels.len() <= LABELS_MAX);
            prop_assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "sorted and unique");
            prop_assert!(labels.iter().any(|(name, _)| name == "service_name"));
            for (name, value) in &labels {
                prop_assert!(name == "__name__" || is_valid_label_name(name), "{name}");
                prop_assert!(!value.is_empty() && value.len() <= crate::LABEL_VALUE_BYTES_MAX);
                prop_assert!(!value.chars().any(char::is_control));
            }
        }
    }
}
