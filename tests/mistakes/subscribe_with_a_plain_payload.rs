use ksi_plugin_api::prelude::*;

struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        ctx.subscribe("a:b", |_: Context, order: Order| async move { Ok(()) })?;
        //~ at subscribe
        //~ `Order` cannot be the payload of a subscribed handler
        //~ write #[payload] on `Order`
        Ok(())
    }
}
