//! The target [`ampoule_fuzz::shim_calls`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(shim_calls);
