//! The labels of a thing: one rule set for every signal.
//!
//! [`profile_labels`] gives the labels of one profile series. Names and values always come out such
//! that Pyroscope takes them, whatever a process calls itself.

mod profile;
mod sanitize;

pub use profile::{LABELS_MAX, Labels, SERVICE_NAME_UNSPECIFIED, profile_labels};
pub use sanitize::{
    LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, PROCESS_NAME_BYTES_MAX, is_valid_label_name, label_value,
    process_name,
};
