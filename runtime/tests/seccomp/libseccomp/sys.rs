//! The functions of seccomp.h that the comparison needs, loaded at run time so that no machine needs the library to
//! build.
#![allow(unsafe_code)]
#![allow(clippy::missing_transmute_annotations, reason = "the fields name the types")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};

/// `struct scmp_arg_cmp`; the operators are numbered from 1 in runtime-spec's order.
#[repr(C)]
pub struct Comparison {
    pub argument: c_uint,
    pub operator: c_int,
    pub a: u64,
    pub b: u64,
}

/// The library, never unloaded.
pub struct Library {
    init: unsafe extern "C" fn(u32) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void),
    arch_add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    rule_add: unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const Comparison) -> c_int,
    export: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
    resolve: unsafe extern "C" fn(u32, *const c_char) -> c_int,
}

impl Library {
    /// None where the library isn't.
    pub fn open() -> Option<Library> {
        // SAFETY: the name is a C string; the library's constructors have no conditions.
        let library = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        let symbol = |name: &CStr| {
            // SAFETY: the handle was just opened and is never closed; the name is a C string.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            assert!(!found.is_null(), "libseccomp has no {name:?}");
            found
        };
        // SAFETY: each pointer is a function of that name, and seccomp.h declares it with that type.
        unsafe {
            Some(Library {
                init: std::mem::transmute(symbol(c"seccomp_init")),
                release: std::mem::transmute(symbol(c"seccomp_release")),
                arch_add: std::mem::transmute(symbol(c"seccomp_arch_add")),
                rule_add: std::mem::transmute(symbol(c"seccomp_rule_add_array")),
                export: std::mem::transmute(symbol(c"seccomp_export_bpf")),
                resolve: std::mem::transmute(symbol(c"seccomp_syscall_resolve_name_arch")),
            })
        }
    }

    /// A call's number on an architecture. Below 0: -1 is unknown, others are known elsewhere, or as parts of another.
    pub fn number(&self, arch: u32, name: &str) -> i32 {
        let name = CString::new(name).expect("no NUL in a name");
        // SAFETY: the name is a C string that outlives the call.
        unsafe { (self.resolve)(arch, name.as_ptr()) }
    }

    /// A filter for the native architecture.
    pub fn filter(&self, default: u32) -> Filter<'_> {
        // SAFETY: an integer only.
        let context = unsafe { (self.init)(default) };
        assert!(!context.is_null(), "seccomp_init");
        Filter { library: self, context }
    }
}

/// A filter in the making. Its context is a live one until drop.
pub struct Filter<'a> {
    library: &'a Library,
    context: *mut c_void,
}

impl Filter<'_> {
    pub fn add_arch(&self, arch: u32) {
        // SAFETY: the context is live.
        assert_eq!(unsafe { (self.library.arch_add)(self.context, arch) }, 0, "seccomp_arch_add");
    }

    /// Whether the rule was taken.
    pub fn add_rule(&self, verdict: u32, number: i32, tests: &[Comparison]) -> bool {
        let (count, first) = (tests.len() as c_uint, tests.as_ptr());
        // SAFETY: the context is live; the comparisons outlive the call, which reads as many as it is told.
        unsafe { (self.library.rule_add)(self.context, verdict, number, count, first) == 0 }
    }

    /// The program, one `struct sock_filter` a word.
    pub fn program(&self) -> Vec<u64> {
        // SAFETY: the name is a C string; the descriptor is new and owned by nobody else.
        let mut file =
            unsafe { File::from_raw_fd(libc::memfd_create(c"program".as_ptr(), libc::MFD_CLOEXEC)) };
        // SAFETY: the context is live and the descriptor open.
        let done = unsafe { (self.library.export)(self.context, file.as_raw_fd()) };
        assert_eq!(done, 0, "seccomp_export_bpf");
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("read the program");
        bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
    }
}

impl Drop for Filter<'_> {
    fn drop(&mut self) {
        // SAFETY: the context is live, and used no more.
        unsafe { (self.library.release)(self.context) }
    }
}
