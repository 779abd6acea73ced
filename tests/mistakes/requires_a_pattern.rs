use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin(requires("stock:*"))]
//~ at "stock:*"
//~ `stock:*` is a pattern, not the name of one event
impl Shop {
}
