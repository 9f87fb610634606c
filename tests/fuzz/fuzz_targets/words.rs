//! The target [`ampoule_fuzz::words`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(words);
