//! Plain data that stages exchange: resources, profiles, metrics and the generated protobuf types.
//! No behaviour beyond constructors that keep an invariant; no IO, no async.

mod metric;
mod profiles;
mod resource;

pub use metric::{Metric, MetricKind};
pub use profiles::{PROFILE_NAME_CPU, ProcessProfile, ProfileBatch};
pub use resource::Resource;

/// The pprof profile format, <https://github.com/google/pprof/blob/main/proto/profile.proto>.
#[allow(missing_debug_implementations, unreachable_pub, reason = "generated code")]
pub mod pprof {
    include!(concat!(env!("OUT_DIR"), "/pprof.rs"));
}

/// Pyroscope's push request, which is also the neutral record of the profile signal.
#[allow(missing_debug_implementations, unreachable_pub, reason = "generated code")]
pub mod push {
    include!(concat!(env!("OUT_DIR"), "/push.v1.rs"));
}
