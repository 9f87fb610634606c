//! The target [`ampoule_fuzz::process`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(process json);
