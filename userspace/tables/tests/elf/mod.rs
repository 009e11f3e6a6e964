//! Small ELF files, section by section.

use std::fs::File;
use std::io::Write;

/// Where code begins, and what is added to its file offset to get its address.
pub(crate) const TEXT: u64 = 0x40_3000;
pub(crate) const TEXT_BIAS: u64 = 0x40_2000;
pub(crate) const TEXT_BYTES: u64 = 0x1000;
/// Where `.eh_frame` is loaded; its segment has the same bias.
pub(crate) const EH_FRAME: u64 = 0x60_2000;
const EH_FRAME_OFFSET: u64 = 0x2000;
const EH_FRAME_HDR: u64 = EH_FRAME - 16;

struct Section {
    name: &'static str,
    address: u64,
    offset: u64,
    bytes: u64,
}

/// A file: headers, code from 0x1000 on, `.eh_frame` from 0x2000 on, then whatever else.
pub(crate) struct Image {
    machine: u16,
    content: Vec<u8>,
    sections: Vec<Section>,
    has_sections: bool,
}

impl Image {
    pub(crate) fn x86_64() -> Self {
        Self::of(62)
    }

    pub(crate) fn aarch64() -> Self {
        Self::of(183)
    }

    fn of(machine: u16) -> Self {
        Self { machine, content: vec![0; EH_FRAME_OFFSET as usize], sections: Vec::new(), has_sections: true }
    }

    pub(crate) fn with_eh_frame(self, content: &[u8]) -> Self {
        let mut image = self.with_section(".eh_frame", EH_FRAME, content);
        // .eh_frame_hdr right before it: version 1, the pointer relative to itself, no table.
        let header = (EH_FRAME_OFFSET - 16) as usize;
        image.content[header..header + 4].copy_from_slice(&[1, 0x1b, 0xff, 0xff]);
        image.content[header + 4..header + 8].copy_from_slice(&12u32.to_le_bytes());
        image
    }

    pub(crate) fn with_section(mut self, name: &'static str, address: u64, content: &[u8]) -> Self {
        let (offset, bytes) = (self.content.len() as u64, content.len() as u64);
        self.content.extend_from_slice(content);
        self.content.resize(self.content.len().next_multiple_of(16) + 16, 0);
        self.sections.push(Section { name, address, offset, bytes });
        self
    }

    pub(crate) fn without_sections(mut self) -> Self {
        self.has_sections = false;
        self
    }

    pub(crate) fn set_section_bytes(&mut self, name: &str, bytes: u64) {
        self.sections
            .iter_mut()
            .filter(|section| section.name == name)
            .for_each(|section| section.bytes = bytes);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = self.content.clone();
        let mut names = vec![0];
        let mut headers = vec![0; 64];
        for section in &self.sections {
            headers.extend(section_header(names.len(), 1, section.address, section.offset, section.bytes));
            names.extend(section.name.bytes().chain([0]));
        }
        headers.extend(section_header(names.len(), 3, 0, file.len() as u64, names.len() as u64 + 10));
        names.extend(b".shstrtab\0");
        let count = if self.has_sections { self.sections.len() as u16 + 2 } else { 0 };
        if self.has_sections {
            file.extend(&names);
            file.resize(file.len().next_multiple_of(8), 0);
        }
        let header_offset = file.len() as u64;
        if self.has_sections {
            file.extend(headers);
        }
        let loaded = self.content.len() as u64 - EH_FRAME_OFFSET + 16;
        let segments = [
            segment(1, 5, 0x1000, TEXT, TEXT_BYTES),
            segment(1, 4, EH_FRAME_OFFSET - 16, EH_FRAME_HDR, loaded),
            segment(0x6474_e550, 4, EH_FRAME_OFFSET - 16, EH_FRAME_HDR, 8),
        ];
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head.extend([2u16, self.machine].map(u16::to_le_bytes).concat());
        head.extend(1u32.to_le_bytes());
        head.extend([TEXT, 64, if count > 0 { header_offset } else { 0 }].map(u64::to_le_bytes).concat());
        head.extend(0u32.to_le_bytes());
        head.extend(
            [64, 56, segments.len() as u16, 64, count, count.max(1) - 1].map(u16::to_le_bytes).concat(),
        );
        head.extend(segments.concat());
        file[..head.len()].copy_from_slice(&head);
        file
    }

    pub(crate) fn file(&self) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.bytes()).unwrap();
        file
    }
}

fn segment(kind: u32, flags: u32, offset: u64, address: u64, bytes: u64) -> Vec<u8> {
    let words = [offset, address, address, bytes, bytes, 16].map(u64::to_le_bytes).concat();
    [kind.to_le_bytes().to_vec(), flags.to_le_bytes().to_vec(), words].concat()
}

fn section_header(name: usize, kind: u32, address: u64, offset: u64, bytes: u64) -> Vec<u8> {
    let mut header = [name as u32, kind].map(u32::to_le_bytes).concat();
    header.extend([2, address, offset, bytes].map(u64::to_le_bytes).concat());
    header.extend([0u32, 0].map(u32::to_le_bytes).concat());
    header.extend([1u64, 0].map(u64::to_le_bytes).concat());
    header
}

/// A CIE behind its identifier: code alignment 1, data alignment -8, pointers of 32 bits relative to themselves.
pub(crate) fn cie(augmentation: &str, return_address: u8, instructions: &[u8]) -> Vec<u8> {
    let mut cie = vec![1];
    cie.extend(augmentation.bytes().chain([0, 1, 0x78, return_address]));
    if augmentation.starts_with('z') {
        cie.extend([1, 0x1b]);
    }
    cie.extend(instructions);
    cie
}

/// `.eh_frame` at an address: the CIE, and entries of (address, bytes, instructions).
pub(crate) fn frames(section: u64, cie: &[u8], entries: &[(u64, u32, &[u8])]) -> Vec<u8> {
    let mut content = entry(0, cie);
    for &(address, bytes, instructions) in entries {
        let at = content.len() as u64;
        content.extend(fde(section + at, at as u32 + 4, address, bytes, instructions));
    }
    content.extend([0; 4]);
    content
}

/// An entry of `.eh_frame` at an address.
pub(crate) fn fde(at: u64, cie_distance: u32, address: u64, bytes: u32, instructions: &[u8]) -> Vec<u8> {
    let mut fde = (address.wrapping_sub(at + 8) as u32).to_le_bytes().to_vec();
    fde.extend(bytes.to_le_bytes());
    fde.push(0);
    fde.extend(instructions);
    entry(cie_distance, &fde)
}

/// `.debug_frame`: the CIE, and entries of (address, bytes, instructions).
pub(crate) fn debug_frames(cie: &[u8], entries: &[(u64, u64, &[u8])]) -> Vec<u8> {
    let mut content = entry(u32::MAX, cie);
    for &(address, bytes, instructions) in entries {
        let fde = [&address.to_le_bytes(), &bytes.to_le_bytes(), instructions].concat();
        content.extend(entry(0, &fde));
    }
    content
}

/// Length, identifier or pointer, content, filled up with DW_CFA_nop.
fn entry(pointer: u32, content: &[u8]) -> Vec<u8> {
    let mut entry = [&[0; 4], &pointer.to_le_bytes(), content].concat();
    entry.resize(entry.len().next_multiple_of(8), 0);
    let length = entry.len() as u32 - 4;
    entry[..4].copy_from_slice(&length.to_le_bytes());
    entry
}
