//~ the first one
use ksi_plugin_api::prelude::*;

#[payload]
struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        ctx.emit(Order { item }).await;
        //~ at Order { item }
        //~ `Order` cannot be emitted, because it carries no event name
        //~ or emit it as named(
        Ok(())
    }
}
