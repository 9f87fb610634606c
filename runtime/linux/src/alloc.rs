//! A bump allocator for a short-lived, single-threaded command line.
//!
//! musl's malloc triples the time of reading config.json. The whole life of `ampoule` needs a few hundred kilobytes, so
//! pieces of memory are given one after the other and never taken back, except the latest piece, which may shrink, grow
//! or go, and a chunk whose every piece has gone, which is begun anew. So a loop that keeps nothing runs for days in one
//! chunk: the first that holds none of what was there before it.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

/// Address space taken at a time; pages cost nothing until they are touched.
const CHUNK: usize = 1 << 20;

/// The allocator. Only for programs that never start a thread.
pub struct Bump(UnsafeCell<Arena>);

/// The current chunk; those before it are never looked at again.
struct Arena {
    start: usize,
    next: usize,
    end: usize,
    /// Pieces of this chunk that are in use.
    used: usize,
}

// SAFETY: `GlobalAlloc` demands `Sync`; `ampoule` never starts a thread, so no two threads can meet here.
unsafe impl Sync for Bump {}

impl Bump {
    /// An empty arena.
    pub const fn new() -> Self {
        Bump(UnsafeCell::new(Arena { start: 0, next: 0, end: 0, used: 0 }))
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

impl Arena {
    fn take(&mut self, layout: Layout) -> *mut u8 {
        // malloc's promise, which some callers count on (nix puts control messages into a `Vec<u8>`).
        let align = layout.align().max(align_of::<u64>());
        let mut start = self.next.next_multiple_of(align);
        if self.end.checked_sub(start).is_none_or(|room| room < layout.size()) {
            let Some(wanted) = layout.size().checked_add(align + CHUNK) else {
                return ptr::null_mut();
            };
            // SAFETY: a fresh private anonymous mapping overlaps nothing.
            let chunk = unsafe {
                let (prot, flags) =
                    (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                libc::mmap(ptr::null_mut(), wanted, prot, flags, -1, 0)
            };
            if chunk == libc::MAP_FAILED {
                return ptr::null_mut();
            }
            self.start = chunk as usize;
            self.next = self.start;
            self.end = self.start + wanted;
            self.used = 0;
            start = self.next.next_multiple_of(align);
        }
        self.next = start + layout.size();
        self.used += 1;
        start as *mut u8
    }

    fn holds(&self, block: *mut u8) -> bool {
        (self.start..self.end).contains(&(block as usize))
    }

    fn give_back(&mut self, block: *mut u8, size: usize) {
        if !self.holds(block) {
            return;
        }
        self.used -= 1;
        if self.used == 0 {
            self.next = self.start;
        } else if block as usize + size == self.next {
            self.next = block as usize;
        }
    }
}

// SAFETY: every block lies in a live mapping that no other block overlaps, since `next` only passes a block's end, or
// returns to the start of the latest one when that is given back, or to the chunk's when no block of it is in use.
// Single-threaded, see `Sync` above.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and `take` calls nothing that allocates.
        unsafe { (*self.0.get()).take(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { (*self.0.get()).give_back(block, layout.size()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let arena = unsafe { &mut *self.0.get() };
        let is_latest = arena.holds(block) && block as usize + layout.size() == arena.next;
        if is_latest && size <= arena.end - block as usize {
            arena.next = block as usize + size;
            return block;
        }
        // SAFETY: the caller promises a valid `size` for this alignment (GlobalAlloc::realloc).
        let fresh = arena.take(unsafe { Layout::from_size_align_unchecked(size, layout.align()) });
        if !fresh.is_null() {
            // SAFETY: both blocks are at least that long, and a fresh block overlaps none.
            unsafe { ptr::copy_nonoverlapping(block, fresh, layout.size().min(size)) };
            arena.give_back(block, layout.size());
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_begun_anew_when_its_last_piece_has_gone() {
        let (bump, layout) = (Bump::new(), Layout::new::<[u64; 8]>());
        let larger = Layout::new::<[u64; 64]>();
        // SAFETY: blocks of this allocator's own, each given back once with its layout.
        unsafe {
            let turn = || {
                let (first, second) = (bump.alloc(layout), bump.alloc(layout));
                let moved = bump.realloc(first, layout, larger.size());
                bump.dealloc(second, layout);
                let last = bump.alloc(layout);
                assert!(last > moved, "the second still was in between");
                bump.dealloc(moved, larger);
                bump.dealloc(last, layout);
                first
            };
            assert_eq!(turn(), turn());
            let kept = bump.alloc(layout);
            assert_ne!(turn(), kept);
            bump.dealloc(kept, layout);
        }
    }

    #[test]
    fn pieces_of_an_earlier_chunk_do_not_count_for_the_current_one() {
        let (bump, small) = (Bump::new(), Layout::new::<u64>());
        let large = Layout::new::<[u8; 2 * CHUNK]>();
        // SAFETY: as above.
        unsafe {
            let early = bump.alloc(small);
            let late = bump.alloc(large);
            bump.dealloc(early, small);
            let other = bump.alloc(small);
            assert!(!(late..late.add(large.size())).contains(&other));
            bump.dealloc(late, large);
            bump.dealloc(other, small);
        }
    }
}
