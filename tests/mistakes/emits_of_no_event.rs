use ksi_plugin_api::prelude::*;

#[payload]
struct Sold {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin(emits(Sold))]
//~ at Sold
//~ `Sold` carries no event name
//~ write #[event("ns:name")] on `Sold`
impl Shop {
}
