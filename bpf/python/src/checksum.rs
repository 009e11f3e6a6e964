//! What tells a code object from another one that took its address.

/// Odd, its bits well spread: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a code object keeps for its life. `co_filename` is not among it: importing a compiled file may rewrite it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    pub argcount: u32,
    pub kwonly: u32,
    pub flags: u32,
    pub firstlineno: u32,
    /// Address of `co_name`.
    pub name: u64,
    /// Address of `co_lnotab` or `co_linetable`.
    pub linetable: u64,
}

/// Taken when a frame is sampled and again when its names are read: they belong together when both agree.
#[inline(always)]
pub const fn checksum(identity: &Identity) -> u32 {
    let mut sum = identity.argcount as u64 | (identity.kwonly as u64) << 32;
    sum = mix(sum) ^ (identity.flags as u64 | (identity.firstlineno as u64) << 32);
    sum = mix(sum) ^ identity.name;
    sum = mix(sum) ^ identity.linetable;
    (mix(sum) >> 32) as u32
}

#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(MULTIPLIER);
    word ^ word >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts() {
        let one = Identity {
            argcount: 1,
            kwonly: 0,
            flags: 3,
            firstlineno: 7,
            name: 0x7f00_1000,
            linetable: 0x7f00_2000,
        };
        let others = [
            Identity { argcount: 2, ..one },
            Identity { kwonly: 1, ..one },
            Identity { flags: 67, ..one },
            Identity { firstlineno: 8, ..one },
            Identity { name: 0x7f00_1010, ..one },
            Identity { linetable: 0x7f00_2010, ..one },
            Identity { name: one.linetable, linetable: one.name, ..one },
        ];
        assert!(others.iter().all(|other| checksum(other) != checksum(&one)));
    }
}
