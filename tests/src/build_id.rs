//! Build ids of executables that are copied: each copy gets another one, by its bytes.

/// Of SHA-1, as the linker's own.
pub const BYTES: usize = 20;

/// What tells the compiler to give an executable this id.
pub fn flag(id: &[u8; BYTES]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("-Wl,--build-id=0x{digits}")
}

/// Replaces every place of `from` by `to`, which is as long; how many there were.
pub fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, it)| *it == from).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at..*at + to.len()].copy_from_slice(to);
    }
    places.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_replaced_and_counted() {
        let mut bytes = *b"ab-ab-cd";
        assert_eq!((replace(&mut bytes, b"ab", b"xy"), bytes), (2, *b"xy-xy-cd"));
        assert_eq!(replace(&mut bytes, b"ab", b"xy"), 0);
    }
}
