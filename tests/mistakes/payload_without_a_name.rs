use ksi_plugin_api::prelude::*;

#[payload]
struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler]
    async fn order(&self, ctx: &Context, order: Order) -> Result<()> {
    //~ at Order
    //~ `Order` carries no event name
    //~ or name the event where a handler is declared, #[event_handler("ns:name")]
        Ok(())
    }
}
