//! The page in a real browser.

mod browser;
mod collector;
mod download;
mod filters;
mod keyboard;
mod layout;
mod pictures;
mod policy;
mod zoom;

use browser::Browser;
use collector::Collector;
