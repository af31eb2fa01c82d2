//! A component that is no plugin.

#![allow(
    unsafe_code,
    reason = "the generated bindings cross the component's boundary"
)]

wit_bindgen::generate!({
    inline: "package elsewhere:app@1.0.0; world app { export brew: func() -> string; }",
    world: "app",
});

struct App;

impl Guest for App {
    fn brew() -> String {
        "tea".into()
    }
}

export!(App);
