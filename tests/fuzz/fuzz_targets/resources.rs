//! The target [`ampoule_fuzz::resources`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(resources json);
