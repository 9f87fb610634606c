//! The target [`ampoule_fuzz::shim_start`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(shim_start);
