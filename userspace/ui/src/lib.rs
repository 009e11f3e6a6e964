//! The page at :12345: flame graph, top table, download; reads the store only.

mod answer;
mod assets;
mod error;
mod frame;
mod query;
mod routes;
mod status;
#[cfg(test)]
mod synthetic;
mod top;
mod tree;

pub use assets::secure;
pub use error::Error;
pub use routes::{State, router};
pub use status::{Destination, Lost, Status, Ticks};
