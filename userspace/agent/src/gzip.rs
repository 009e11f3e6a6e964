//! Profiles encoded and compressed, one after the other with the same buffers.

use std::io;

use libdeflater::{CompressionLvl, Compressor};
use prost::Message;

/// The fastest: a profile is compressed once in each interval, on the machine that is being measured.
const LEVEL: i32 = 1;

/// Larger buffers are not kept from one profile to the next.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A compressor with its tables, and a profile's bytes before and after.
pub(crate) struct Gzip {
    compressor: Compressor,
    plain: Vec<u8>,
    compressed: Vec<u8>,
}

impl std::fmt::Debug for Gzip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gzip").finish_non_exhaustive()
    }
}

impl Default for Gzip {
    fn default() -> Self {
        // Level 1 is one of libdeflate's.
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        Self { compressor: Compressor::new(level), plain: Vec::new(), compressed: Vec::new() }
    }
}

impl Gzip {
    /// The message, encoded and compressed.
    ///
    /// # Errors
    /// Those of the compressor; with room for its own bound there is nothing that it could run out of.
    pub(crate) fn encode(&mut self, message: &impl Message) -> io::Result<Vec<u8>> {
        self.plain.clear();
        message.encode(&mut self.plain).map_err(io::Error::other)?;
        let bound = self.compressor.gzip_compress_bound(self.plain.len());
        if self.compressed.len() < bound {
            self.compressed.resize(bound, 0);
        }
        let written = self.compressor.gzip_compress(&self.plain, &mut self.compressed);
        let bytes = self.compressed[..written.map_err(io::Error::other)?].to_vec();
        for buffer in [&mut self.plain, &mut self.compressed] {
            if buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzDecoder;
    use model::pprof::Profile;

    use super::*;

    fn profile(names: usize) -> Profile {
        let string_table = (0..names).map(|name| format!("function{name}")).collect();
        Profile { string_table, ..Profile::default() }
    }

    #[test]
    fn a_small_profile_after_a_large_one_is_itself_alone() {
        let mut gzip = Gzip::default();
        for names in [200_000, 1, 0, 500] {
            let encoded = gzip.encode(&profile(names)).unwrap();
            let mut decoder = GzDecoder::new(Vec::new());
            decoder.write_all(&encoded).unwrap();
            assert_eq!(Profile::decode(decoder.finish().unwrap().as_slice()).unwrap(), profile(names));
            assert!(gzip.plain.capacity() <= KEPT_BYTES_MAX && gzip.compressed.capacity() <= KEPT_BYTES_MAX);
        }
    }
}
