//! The target [`ampoule_fuzz::image`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(image);
