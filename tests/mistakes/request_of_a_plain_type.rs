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
        let _: Order = ctx.request(named("a:b", &item)).await?;
        //~ at request
        //~ `Order` cannot be awaited as a reply
        //~ write #[payload] on `Order`
        Ok(())
    }
}
