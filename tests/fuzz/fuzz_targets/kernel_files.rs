//! The target [`ampoule_fuzz::kernel_files`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(kernel_files);
