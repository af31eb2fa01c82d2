//! A counter that keeps its count over a reload: version 2 of it.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

const NAME: &str = "v2";

include!("shared/counter.rs");
