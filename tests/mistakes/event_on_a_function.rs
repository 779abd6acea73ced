use ksi_plugin_api::prelude::*;

#[event("shop:order")]
//~ at #[event("shop:order")]
//~ #[event] belongs on a struct or an enum
fn order() {}
