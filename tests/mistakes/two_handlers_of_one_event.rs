use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }

    #[event_handler("shop:order")]
    //~ at "shop:order"
    //~ `shop:order` is handled by `order` already: a plugin handles an event in one place, so call the second method from the first
    async fn again(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
