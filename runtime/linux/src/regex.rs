//! POSIX extended regular expressions, regex(3): the C library's, as crun has them, and so at no cost of ours.

use std::ffi::CString;
use std::mem::MaybeUninit;

/// A compiled expression.
pub struct Regex(libc::regex_t);

impl Regex {
    /// Compiles an expression; `None` when it is none.
    pub fn new(text: &str) -> Option<Regex> {
        let text = CString::new(text).ok()?;
        let mut compiled = MaybeUninit::uninit();
        // SAFETY: `text` is a C string that regcomp does not keep; with 0 it has filled `compiled` in.
        unsafe {
            match libc::regcomp(compiled.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) {
                0 => Some(Regex(compiled.assume_init())),
                _ => None,
            }
        }
    }

    /// Whether some part of the text matches.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: the expression is compiled, `text` is a C string, and no room for places is promised.
        unsafe { libc::regexec(&self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: the expression is compiled, and nobody uses it any more.
        unsafe { libc::regfree(&mut self.0) }
    }
}
