//! The target [`ampoule_fuzz::seccomp`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(seccomp json);
