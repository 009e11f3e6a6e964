//! An image's mappings as the kernel programs look them up.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use abi::{EXEC_PAGES_UNCHECKED, MAPPING_ANONYMOUS, MAPPING_FILE, MAPPING_OPAQUE, MAPPING_PENDING, Mapping};

use super::area::{Area, Target};
use super::mappings::Mappings;

/// Seeded anew in each run, so that nobody can make two layouts that pass for one.
static IDENTITY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What the kernel is to know of an image now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// By address, without overlap.
    pub(crate) mappings: Vec<Mapping>,
    /// What `mm->exec_vm` must be, or [`EXEC_PAGES_UNCHECKED`].
    pub(crate) exec_pages: u64,
    /// The same for images whose `mappings` are the same, as of forked children; never 0.
    pub(crate) identity: u64,
}

impl Layout {
    pub(super) fn of(mappings: &Mappings, page_bytes: u64, checked: bool) -> Self {
        let areas = mappings.current();
        let pages = |area: &Area| (area.end - area.start) / page_bytes;
        let exec_pages = areas.iter().filter(|area| area.counted).map(pages).sum();
        let mut layout: Vec<Mapping> = areas.iter().map(mapping).collect();
        layout.dedup_by(|next, known| {
            let join = known.end == next.start
                && known.kind == next.kind
                && known.executable == next.executable
                && (known.kind != MAPPING_FILE
                    || u64::from(next.file_offset)
                        == u64::from(known.file_offset) + (known.end - known.start));
            if join {
                known.end = next.end;
            }
            join
        });
        let identity = identity(&layout);
        Self {
            mappings: layout,
            exec_pages: if checked { exec_pages } else { EXEC_PAGES_UNCHECKED },
            identity,
        }
    }
}

/// As the kernel sees a range: a file whose offsets do not fit 32 bits is opaque.
pub(super) fn mapping(area: &Area) -> Mapping {
    let Area { start, end, file_offset, .. } = *area;
    let opaque = Mapping { start, end, kind: MAPPING_OPAQUE, ..Mapping::default() };
    match &area.target {
        Target::Binary(binary) => {
            let last = file_offset.checked_add(end - start - 1).map(u32::try_from);
            match (u32::try_from(file_offset), last) {
                (Ok(file_offset), Some(Ok(_))) => {
                    Mapping { file_offset, executable: binary.slot, kind: MAPPING_FILE, ..opaque }
                }
                _ => opaque,
            }
        }
        Target::Anonymous => Mapping { kind: MAPPING_ANONYMOUS, ..opaque },
        Target::Slow(_) => Mapping { kind: MAPPING_PENDING, ..opaque },
        Target::Unopened(_) | Target::Opaque => opaque,
    }
}

fn identity(mappings: &[Mapping]) -> u64 {
    let mut hasher = IDENTITY.build_hasher();
    for Mapping { start, end, file_offset, executable, kind, .. } in mappings {
        hasher.write_u64(*start);
        hasher.write_u64(*end);
        hasher.write_u64(u64::from(*file_offset) << 32 | u64::from(*executable));
        hasher.write_u32(*kind);
    }
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::executable::Binary;

    const PAGE: u64 = 4096;

    fn area(page: u64, pages: u64, file_offset: u64, target: Target) -> Area {
        let (start, end) = (page * PAGE, (page + pages) * PAGE);
        Area { start, end, file_offset, target, counted: true, from_ns: 1, to_ns: u64::MAX }
    }

    fn file(slot: u32) -> Target {
        Target::Binary(Arc::new(Binary::for_test(slot.into(), slot)))
    }

    fn layout(areas: Vec<Area>) -> Layout {
        let mut mappings = Mappings::default();
        mappings.replace(5, 1, areas);
        Layout::of(&mappings, PAGE, true)
    }

    #[test]
    fn files_are_slots_and_offsets_and_the_kernels_own_count_of_pages_is_known() {
        let layout = layout(vec![
            area(1, 2, 0x3000, file(7)),
            Area { counted: false, ..area(5, 1, 0, Target::Anonymous) },
            area(9, 4, 0, Target::Opaque),
        ]);
        let expected = [(1, 7, MAPPING_FILE), (5, 0, MAPPING_ANONYMOUS), (9, 0, MAPPING_OPAQUE)];
        let found: Vec<_> =
            layout.mappings.iter().map(|it| (it.start / PAGE, it.executable, it.kind)).collect();
        assert_eq!(found, expected);
        assert_eq!((layout.mappings[0].file_offset, layout.mappings[0].end), (0x3000, 3 * PAGE));
        assert_eq!(layout.exec_pages, 6);
    }

    #[test]
    fn offsets_beyond_32_bits_are_opaque() {
        let last = (1 << 32) - PAGE;
        let of = |pages, offset| layout(vec![area(1, pages, offset, file(7))]).mappings[0].kind;
        assert_eq!(of(1, last), MAPPING_FILE);
        assert_eq!(of(2, last), MAPPING_OPAQUE);
        assert_eq!(of(1, 1 << 32), MAPPING_OPAQUE);
        assert_eq!(of(1, u64::MAX), MAPPING_OPAQUE);
    }

    #[test]
    fn neighbours_that_the_kernel_need_not_tell_apart_are_one() {
        let other = Area { counted: false, ..area(2, 1, 0, Target::Anonymous) };
        assert_eq!(layout(vec![area(1, 1, 0, Target::Anonymous), other]).mappings.len(), 1);
        let binary = file(3);
        let pieces = vec![
            Area { from_ns: 2, ..area(1, 1, 0x1000, binary.clone()) },
            area(2, 1, 0x2000, binary.clone()),
            area(3, 1, 0x1000, binary),
        ];
        assert_eq!(layout(pieces).mappings.len(), 2);
    }

    #[test]
    fn equal_mappings_have_one_identity_and_others_another() {
        let binary = file(3);
        let of = |page, offset| layout(vec![area(page, 1, offset, binary.clone())]).identity;
        assert_eq!(of(1, 0x1000), of(1, 0x1000));
        assert_ne!(of(1, 0x1000), of(2, 0x1000));
        assert_ne!(of(1, 0x1000), of(1, 0x2000));
    }
}
