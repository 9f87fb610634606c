//! The target [`ampoule_fuzz::users`].
#![cfg_attr(fuzzing, no_main)]

ampoule_fuzz::target!(users);
