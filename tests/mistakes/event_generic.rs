use ksi_plugin_api::prelude::*;

#[event("shop:order")]
struct Order<T> {
//~ at <T>
//~ an event has one form, so its type takes no generics but lifetimes
    item: T,
}
