//! Handles of WASI's resources by their numbers, beneath all bindings. Where there is no WASI there are
//! none.

/// Uses a handle as no binding would, as an order says. None for other orders.
#[cfg(target_os = "wasi")]
pub(crate) fn follow(order: &[&str]) -> Option<&'static str> {
    match *order {
        ["ready", number] => {
            raw::ready(number.parse().expect("a number"));
        }
        ["drop", number] => raw::drop_pollable(number.parse().expect("a number")),
        ["drop-twice"] => {
            let handle = raw::subscribe(0);
            raw::drop_pollable(handle);
            raw::drop_pollable(handle);
        }
        ["drop-as-another"] => raw::drop_stream(raw::subscribe(0)),
        ["drop-once"] => raw::drop_pollable(raw::subscribe(0)),
        // Takes one after the other and gives none of them back.
        ["hoard"] => loop {
            raw::subscribe(0);
        },
        _ => return None,
    }
    Some("done")
}

#[cfg(not(target_os = "wasi"))]
pub(crate) fn follow(_: &[&str]) -> Option<&'static str> {
    None
}

/// Functions of WASI as the component model's ABI has them. The versions are those that this Rust's
/// standard library names.
#[cfg(target_os = "wasi")]
mod raw {
    #[link(wasm_import_module = "wasi:io/poll@0.2.4")]
    unsafe extern "C" {
        #[link_name = "[method]pollable.ready"]
        pub(super) safe fn ready(handle: u32) -> u32;
        #[link_name = "[resource-drop]pollable"]
        pub(super) safe fn drop_pollable(handle: u32);
    }

    #[link(wasm_import_module = "wasi:io/streams@0.2.4")]
    unsafe extern "C" {
        #[link_name = "[resource-drop]input-stream"]
        pub(super) safe fn drop_stream(handle: u32);
    }

    #[link(wasm_import_module = "wasi:clocks/monotonic-clock@0.2.4")]
    unsafe extern "C" {
        #[link_name = "subscribe-duration"]
        pub(super) safe fn subscribe(nanoseconds: u64) -> u32;
    }
}
