use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin(name = "my shop")]
//~ at "my shop"
//~ `my shop` is no plugin name: ' ' is not allowed
impl Shop {
}
