use ksi_plugin_api::prelude::*;

#[event("shop:order")]
struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler]
    async fn order(&self, ctx: &Context, order: Order) -> Result<()> {
        Ok(())
    }

    #[event_handler]
    async fn again(&self, ctx: &Context, order: Order) -> Result<()> {
    //~ at Order
    //~ `Order` is handled by `order` already: a plugin handles an event in one place
        Ok(())
    }
}
