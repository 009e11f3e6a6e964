//! Every struct, capacity and counter that crosses the kernel border.
