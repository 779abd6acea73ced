use ksi_plugin_api::prelude::*;

struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[initialize]
    async fn start(ctx: &Context, config: Order) -> Result<Self> {
    //~ at Order
    //~ `Order` cannot be the configuration of a plugin
    //~ write #[payload] on `Order`
        Ok(Shop)
    }
}
