//! Holds the bytes of the kernel programs that the build script compiled.

/// Puts the object where its 64-bit ELF headers can be read in place.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/sampler")));

/// The sampler's ELF object for the BPF machine, with BTF; its first byte is aligned to 8.
pub static SAMPLER: &[u8] = &OBJECT.0;
