//! The commands beside `run`, one file each.

pub(crate) mod check;
pub(crate) mod doctor;
mod formats;
pub(crate) mod profile;
