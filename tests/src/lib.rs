//! Drives the built binary against real kernels, containers, backends and a browser.
