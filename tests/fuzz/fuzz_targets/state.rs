//! The target [`ampoule_fuzz::state`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(state json);
