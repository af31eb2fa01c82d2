//! What wit-bindgen makes of the contract in `wit/`. Nothing of it is public: the modules of this
//! crate wrap it in types of their own.

#![allow(
    missing_docs,
    reason = "the contract is documented in wit/, the wrappers here"
)]
#![allow(
    unsafe_code,
    reason = "the component model's calling convention is unsafe by nature"
)]
#![allow(missing_debug_implementations, reason = "generated code")]
#![allow(unreachable_pub, reason = "generated code")]

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_all",
    default_bindings_module: "consort_plugin::bindings",
});
