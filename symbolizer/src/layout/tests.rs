//! Tests of the module `layout`.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;

fn load(offset: u64, address: u64, executable: bool) -> Load {
    Load { offset, address, bytes: 0x1000, executable }
}

#[test]
fn an_offset_in_two_segments_belongs_to_the_executable_one() {
    let loads = vec![load(0, 0x40_0000, false), load(0x800, 0x50_0800, true)];
    let layout = Layout { loads, ..Layout::default() };
    assert_eq!(layout.virtual_address(0x7ff), Some(0x40_07ff));
    assert_eq!(layout.virtual_address(0x800), Some(0x50_0800));
    assert_eq!(layout.virtual_address(0x17ff), Some(0x50_17ff));
    assert_eq!(layout.virtual_address(0x1800), None);
    let wraps = Layout { loads: vec![load(u64::MAX - 1, u64::MAX, true)], ..Layout::default() };
    assert_eq!(wraps.virtual_address(u64::MAX), None);
}

#[test]
fn a_stream_that_yields_more_or_less_than_it_claims_is_refused() {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 8 << 20]).unwrap();
    let stream = encoder.finish().unwrap();
    let place = Section { offset: 0, bytes: stream.len() as u64 };
    for (claimed, right) in [(8 << 20, true), (1 << 20, false), (9 << 20, false)] {
        let compressed = vec![Compressed { stream: place, inflated_bytes: claimed }];
        let layout = Layout { compressed, ..Layout::default() };
        assert_eq!(layout.inflated_as_claimed(&stream[..]), right, "{claimed}");
    }
    let beyond = Section { offset: 10, ..place };
    let compressed = vec![Compressed { stream: beyond, inflated_bytes: 8 << 20 }];
    assert!(!Layout { compressed, ..Layout::default() }.inflated_as_claimed(&stream[..]));
}

#[test]
fn headers_beyond_all_measure_are_refused_before_memory_is_taken() {
    let mut header = [0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    header[16] = 2;
    assert_eq!(parse(&header[..]), Ok(Layout::default()));
    // The number of sections stands in the size of the first one.
    let mut many = [0; 256];
    many[..64].copy_from_slice(&header);
    many[40] = 128;
    many[58] = 64;
    many[128 + 32..128 + 40].copy_from_slice(&u64::MAX.to_ne_bytes());
    assert_eq!(parse(&many[..]), Err(Reason::Unreadable));
    many[128 + 32..128 + 40].copy_from_slice(&2u64.to_ne_bytes());
    assert_eq!(parse(&many[..]), Ok(Layout::default()), "two sections without names");
    let mut programs = header;
    programs[54] = 56;
    programs[56..58].copy_from_slice(&2000u16.to_ne_bytes());
    assert_eq!(parse(&programs[..]), Err(Reason::Unreadable));
    let mut foreign = header;
    foreign[5] = 3 - foreign[5];
    assert_eq!(parse(&foreign[..]), Err(Reason::NotElf));
}

#[test]
fn the_section_that_is_measured_is_the_one_that_will_be_unpacked() {
    let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    let stream = encoder.finish().unwrap();
    let section = |kind, bytes| {
        let place = Section { offset: 0, bytes };
        SectionHeader { name: 0, kind, flags: 0, place, link: 0, info: 0 }
    };
    let mut elf = [0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16] = 2;
    let header = Header::parse(&elf[..]).unwrap();
    let packed = stream.len() as u64;
    let layout = |sections: &[(&[u8], u32, u64)]| {
        let mut layout = Layout::default();
        for &(name, kind, bytes) in sections {
            layout.add(&stream[..], &header, name, section(kind, bytes)).unwrap();
        }
        layout
    };
    let (minidebug, symtab): (&[u8], &[u8]) = (b".gnu_debugdata", b".symtab");
    let unpacked = [
        layout(&[(minidebug, 1, packed)]),
        layout(&[(minidebug, 1, packed), (minidebug, 1, 0)]),
        layout(&[(symtab, 2, 0), (minidebug, 1, packed), (symtab, 2, 24)]),
        layout(&[(symtab, SHT_NOBITS, 24), (symtab, 2, 24), (minidebug, 1, packed)]),
    ];
    for layout in unpacked {
        assert_eq!(layout.symbol_bytes_unpacked(&stream[..], 1 << 20), Ok(1 << 20), "{layout:?}");
        assert_eq!(
            layout.symbol_bytes_unpacked(&stream[..], (1 << 20) - 1),
            Err(Reason::TooLarge),
            "{layout:?}"
        );
    }
    let unused = [
        layout(&[(minidebug, 1, packed), (symtab, 2, 24)]),
        layout(&[(minidebug, SHT_NOBITS, packed), (minidebug, 1, packed)]),
    ];
    for layout in unused {
        assert_eq!(layout.symbol_bytes_unpacked(&stream[..], 1), Ok(0), "{layout:?}");
    }
}
