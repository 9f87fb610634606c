//! The target [`ampoule_fuzz::config`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(config json);
