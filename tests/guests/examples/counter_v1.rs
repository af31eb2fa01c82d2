//! A counter that keeps its count over a reload: version 1 of it.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

const NAME: &str = "v1";

include!("shared/counter.rs");
