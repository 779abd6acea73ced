use ksi_plugin_api::prelude::*;

#[event("shop:*")]
//~ at "shop:*"
//~ `shop:*` is a pattern, not the name of one event
struct Order {
    item: String,
}
