use ksi_plugin_api::prelude::*;

struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, order: Order) -> Result<()> {
    //~ at Order
    //~ `Order` cannot be the payload of a handler
    //~ write #[payload] or #[event("ns:name")] on `Order`
        Ok(())
    }
}
