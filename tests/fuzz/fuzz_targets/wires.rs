//! The target [`ampoule_fuzz::wires`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(wires);
