//! Real servers that receive what kovar sends.

mod connect;
mod delivery;
mod functions;
mod outage;
mod pyroscope;
mod relay;
