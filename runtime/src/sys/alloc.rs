//! A bump allocator for a short-lived, single-threaded command line.
//!
//! musl's malloc triples the time of reading config.json. The whole life of `ampoule` needs a few hundred kilobytes,
//! so memory is handed out in a line and never taken back, except the latest piece, which may shrink, grow or go.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;

/// Address space taken at a time; pages cost nothing until they are touched.
const CHUNK: usize = 1 << 20;

/// The allocator. Only for programs that never start a thread.
pub struct Bump(UnsafeCell<Arena>);

struct Arena {
    next: usize,
    end: usize,
}

// SAFETY: `GlobalAlloc` demands `Sync`; `ampoule` never starts a thread, so no two threads can meet here.
unsafe impl Sync for Bump {}

impl Bump {
    /// An empty arena.
    pub const fn new() -> Self {
        Bump(UnsafeCell::new(Arena { next: 0, end: 0 }))
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

impl Arena {
    fn take(&mut self, layout: Layout) -> *mut u8 {
        let mut start = self.next.next_multiple_of(layout.align());
        if self.end.checked_sub(start).is_none_or(|room| room < layout.size()) {
            let Some(wanted) = layout.size().checked_add(layout.align() + CHUNK) else {
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
            self.next = chunk as usize;
            self.end = self.next + wanted;
            start = self.next.next_multiple_of(layout.align());
        }
        self.next = start + layout.size();
        start as *mut u8
    }
}

// SAFETY: every block lies in a live mapping that no other block overlaps, since `next` only passes a block's end, or
// returns to the start of the latest one when that is given back. Single-threaded, see `Sync` above.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and `take` calls nothing that allocates.
        unsafe { (*self.0.get()).take(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        let arena = unsafe { &mut *self.0.get() };
        if block as usize + layout.size() == arena.next {
            arena.next = block as usize;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let arena = unsafe { &mut *self.0.get() };
        if block as usize + layout.size() == arena.next && size <= arena.end - block as usize {
            arena.next = block as usize + size;
            return block;
        }
        // SAFETY: the caller promises a valid `size` for this alignment (GlobalAlloc::realloc).
        let fresh = arena.take(unsafe { Layout::from_size_align_unchecked(size, layout.align()) });
        if !fresh.is_null() {
            // SAFETY: both blocks are at least that long, and a fresh block overlaps none.
            unsafe { ptr::copy_nonoverlapping(block, fresh, layout.size().min(size)) };
        }
        fresh
    }
}
