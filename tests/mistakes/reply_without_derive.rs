use ksi_plugin_api::prelude::*;

struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<Order> {
    //~ at Order
    //~ `Order` cannot be the reply of a handler
    //~ write #[payload] on `Order`
        Ok(Order { item })
    }
}
