//! A raw profile's bytes to a profile, with limits on what it may grow to.

use std::io::Read;

use model::pprof;
use prost::Message;

/// Bytes of one profile after gunzip.
pub(crate) const PROFILE_BYTES_MAX: usize = 16 << 20;
/// Estimated memory of one decoded profile.
const PROFILE_MEMORY_BYTES_MAX: usize = 128 << 20;
/// Memory that one encoded byte inside a message can turn into: a label of 2 bytes becomes 32.
const MEMORY_PER_BYTE: usize = 16;
/// Memory of the largest message at the top of a profile.
const MEMORY_PER_MESSAGE: usize = size_of::<pprof::Mapping>();
const STRING_TABLE_TAG: u64 = 6;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The profile cannot be read, or would be too large.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Decodes a profile, gzipped or not; `buffer` is scratch space.
pub(crate) fn profile(raw: &[u8], buffer: &mut Vec<u8>) -> Result<pprof::Profile, Unreadable> {
    let bytes = if raw.starts_with(&GZIP_MAGIC) { gunzip(raw, buffer)? } else { raw };
    if bytes.len() > PROFILE_BYTES_MAX || memory_bytes(bytes)? > PROFILE_MEMORY_BYTES_MAX {
        return Err(Unreadable);
    }
    pprof::Profile::decode(bytes).map_err(|_broken| Unreadable)
}

fn gunzip<'a>(raw: &[u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Unreadable> {
    buffer.clear();
    #[allow(clippy::disallowed_types, reason = "capped by Read::take on the next line")]
    let decoder = flate2::read::GzDecoder::new(raw);
    let taken = decoder.take(PROFILE_BYTES_MAX as u64 + 1).read_to_end(buffer);
    taken.map_err(|_broken| Unreadable)?;
    Ok(buffer)
}

/// An upper estimate of what decoding allocates, from the lengths at the top of the message alone.
fn memory_bytes(mut bytes: &[u8]) -> Result<usize, Unreadable> {
    let mut total = 0usize;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                total = total.saturating_add(size_of::<i64>());
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).map_err(|_huge| Unreadable)?,
            5 => 4,
            _ => return Err(Unreadable),
        };
        bytes = bytes.get(length..).ok_or(Unreadable)?;
        let memory = if key >> 3 == STRING_TABLE_TAG {
            size_of::<String>().saturating_add(length)
        } else {
            MEMORY_PER_MESSAGE.saturating_add(length.saturating_mul(MEMORY_PER_BYTE))
        };
        total = total.saturating_add(memory);
    }
    Ok(total)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(Unreadable)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_profile_is_read_gzipped_and_plain() {
        let expected = pprof::Profile { string_table: vec![String::new(), "x".into()], ..Default::default() };
        let bytes = expected.encode_to_vec();
        assert_eq!(profile(&bytes, &mut Vec::new()), Ok(expected.clone()));
        assert_eq!(profile(&gzip(&bytes), &mut Vec::new()), Ok(expected));
    }

    #[test]
    fn a_bomb_is_refused_at_the_cap() {
        // One string of 32 MiB, in 32 KiB of gzip.
        let bomb =
            pprof::Profile { string_table: vec!["x".repeat(2 * PROFILE_BYTES_MAX)], ..Default::default() };
        let raw = gzip(&bomb.encode_to_vec());
        assert!(raw.len() < PROFILE_BYTES_MAX / 50, "{}", raw.len());
        let mut buffer = Vec::new();
        assert_eq!(profile(&raw, &mut buffer), Err(Unreadable));
        assert_eq!(buffer.len(), PROFILE_BYTES_MAX + 1);
    }

    #[test]
    fn many_empty_messages_are_refused_before_they_take_memory() {
        // Eight million empty samples, which would be half a GiB.
        let bytes: Vec<u8> = [0x12, 0x00].repeat(PROFILE_BYTES_MAX / 2);
        assert_eq!(profile(&bytes, &mut Vec::new()), Err(Unreadable));
    }

    #[test]
    fn a_truncated_gzip_is_unreadable() {
        let raw = gzip(&[7; 1000]);
        for len in 0..raw.len() {
            // Fewer than two bytes are not gzip, and no profile either, save the empty one.
            assert_eq!(profile(&raw[..len], &mut Vec::new()).is_ok(), len == 0, "{len}");
        }
    }
}
