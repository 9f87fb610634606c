//! The target [`ampoule_fuzz::layer`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(layer);
