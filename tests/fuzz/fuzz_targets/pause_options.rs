//! The target [`ampoule_fuzz::pause_options`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(pause_options);
