//! Containers and processes to the Cluster snapshot. So far: which container a cgroup belongs to.

mod container;

pub use container::{ContainerId, Runtime, container_id};
