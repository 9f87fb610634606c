//! What the kernel hands to a new program: arguments and environment, on its stack.

use super::{Errno, call, check, nr};
use core::ffi::CStr;
use core::marker::PhantomData;

/// A text that a null byte ends. Half as large as a `CStr`, and what the kernel takes.
#[derive(Clone, Copy)]
pub struct Text<'s>(*const u8, PhantomData<&'s u8>);

impl<'s> Text<'s> {
    /// The empty text.
    pub const EMPTY: Self = Self::of(c"");

    /// A text known to the compiler.
    pub const fn of(text: &'s CStr) -> Self {
        Self(text.as_ptr().cast(), PhantomData)
    }

    /// The text up to the first null byte, or the empty text when there is none.
    pub fn ended(room: &'s [u8]) -> Self {
        if room.iter().all(|byte| *byte != 0) { Self::EMPTY } else { Self(room.as_ptr(), PhantomData) }
    }

    /// Its bytes, without the null byte.
    pub fn bytes(self) -> &'s [u8] {
        // SAFETY: every way to make one sees to its end.
        unsafe { CStr::from_ptr(self.0.cast()) }.to_bytes()
    }

    /// Where it lies, for the kernel.
    pub(super) fn address(self) -> usize {
        self.0 as usize
    }
}

/// The arguments and the environment, all of whose texts live as long as `'s`.
///
/// At this address lie the count of arguments, so many pointers and a null one, then the environment's pointers and a
/// null one.
pub struct Start<'s>(*mut usize, PhantomData<Text<'s>>);

impl<'s> Start<'s> {
    /// # Safety
    /// `stack` is where the stack pointer was when the program began, and this is the only `Start`.
    pub unsafe fn new(stack: *mut usize) -> Self {
        Self(stack, PhantomData)
    }

    fn count(&self) -> usize {
        // SAFETY: the first word is the count.
        unsafe { *self.0 }
    }

    /// A place of the list of pointers, which has the arguments, null, the environment, null.
    fn pointer(&self, at: usize) -> *mut *const u8 {
        // SAFETY: callers name a place of the list, which begins behind the count.
        unsafe { self.0.add(1 + at).cast() }
    }

    /// An argument; empty behind the last.
    pub fn argument(&self, at: usize) -> Text<'s> {
        self.text(at.min(self.count())).unwrap_or(Text::EMPTY)
    }

    /// Every argument, pause's own name first.
    pub fn arguments(&self) -> impl Iterator<Item = &'s [u8]> {
        (0..self.count()).map(|at| self.argument(at).bytes())
    }

    /// The value of an environment variable.
    pub fn variable(&self, name: &[u8]) -> Option<&'s [u8]> {
        self.place(name).map(|(_, value)| value)
    }

    /// Makes `entry` stand where the variable stood, if it did: `NAME=VALUE`, or an empty text to remove it.
    pub fn replace_variable(&mut self, name: &[u8], entry: Text<'s>) {
        if let Some((at, _)) = self.place(name) {
            self.set(at, entry);
        }
    }

    /// Gives the lists of pointers back to the kernel, with the pages that they alone lie on. The kernel puts them at
    /// random up to two pages below the texts, which stay (`ps` shows them): without this, pause would weigh a page
    /// more in one start of ten.
    pub fn forget(self) {
        const PAGE: usize = 4096;
        const MADV_DONTNEED: usize = 4;
        let page_of = |address: usize| address & !(PAGE - 1);
        // pause's own stack ends where the first page begins. Of all the texts, the first argument lies lowest.
        let (from, to) = (page_of(self.0 as usize), page_of(self.argument(0).address()));
        // SAFETY: nobody else has the lists. The kernel refuses a range that is none, and pages of another size.
        unsafe { call(nr::MADVISE, from, to.wrapping_sub(from), MADV_DONTNEED, 0, 0) };
    }

    /// Becomes the program at `path`, with the arguments from `from` on. Returns only the error.
    pub fn execute(&self, path: Text, from: usize) -> Errno {
        // SAFETY: both lists end with a null pointer, and hold nothing but texts before it.
        let result = unsafe {
            let (argv, envp) = (self.pointer(from.min(self.count())), self.pointer(self.count() + 1));
            call(nr::EXECVE, path.address(), argv as usize, envp as usize, 0, 0)
        };
        check(result).err().unwrap_or(0)
    }

    /// Runs the script at `path` with /bin/sh, as execvp does with what the kernel can't execute. `/bin/sh` takes
    /// the place before the command's, which holds one of pause's own arguments.
    pub fn interpret(&mut self, path: Text<'s>, from: usize) -> Errno {
        const SHELL: Text = Text::of(c"/bin/sh");
        let before = from.saturating_sub(1);
        self.set(before, SHELL);
        self.set(from, path);
        self.execute(SHELL, before)
    }

    /// Where in the list a variable stands, and its value.
    fn place(&self, name: &[u8]) -> Option<(usize, &'s [u8])> {
        let mut at = self.count();
        loop {
            at += 1;
            let value = self.text(at)?.bytes().strip_prefix(name);
            if let Some([b'=', value @ ..]) = value {
                return Some((at, value));
            }
        }
    }

    /// The text at a place of the list; `None` at its two ends.
    fn text(&self, at: usize) -> Option<Text<'s>> {
        // SAFETY: callers stop at the second `None`. Each pointer before it leads to a text of the kernel or of `set`.
        let pointer = unsafe { *self.pointer(at) };
        (!pointer.is_null()).then_some(Text(pointer, PhantomData))
    }

    fn set(&mut self, at: usize, text: Text<'s>) {
        // SAFETY: callers name a place that holds a text; the kernel made the list writable.
        unsafe { *self.pointer(at) = text.0 };
    }
}
