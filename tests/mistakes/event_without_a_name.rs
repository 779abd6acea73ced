use ksi_plugin_api::prelude::*;

#[event]
//~ at #[event]
//~ an event has one name in quotes: write `#[event("greet:request")]`
struct Order {
    item: String,
}
