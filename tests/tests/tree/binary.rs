//! The program itself: one static file, small enough to be read while it starts.

use ampoule_tests::{Runtime, ampoule_only};

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// The types of an ELF64 file's program headers.
fn segments(elf: &[u8]) -> Vec<u32> {
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a little-endian ELF64 file");
    let half = |at: usize| u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()) as usize;
    let offset = u64::from_le_bytes(elf[32..40].try_into().unwrap()) as usize;
    let (size, count) = (half(54), half(56));
    (0..count).map(|i| u32::from_le_bytes(elf[offset + i * size..][..4].try_into().unwrap())).collect()
}

#[test]
fn the_binary_is_static_and_at_most_two_mebibytes() {
    ampoule_only!("Debian's runc is linked with the C library");
    let elf = std::fs::read(Runtime::get().program()).expect("read the program");
    let segments = segments(&elf);
    assert!(!segments.contains(&PT_INTERP), "it needs a dynamic loader");
    // A static PIE has a dynamic segment, but only to relocate itself.
    assert!(segments.len() > 2 && segments.iter().filter(|s| **s == PT_DYNAMIC).count() <= 1);
    assert!(elf.len() <= 2 << 20, "{} bytes", elf.len());
}
