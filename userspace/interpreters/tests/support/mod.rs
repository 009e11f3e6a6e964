//! Real interpreters, started, stopped and looked at.

mod found;
mod target;

pub(crate) use found::{Interpreter, found};
pub(crate) use target::{Attached, Expected, Target};
