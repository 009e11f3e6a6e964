//! Builds the kernel programs and holds the object's bytes.
