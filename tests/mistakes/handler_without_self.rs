use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(ctx: &Context, item: String) -> Result<()> {
    //~ at ctx: &Context
    //~ a handler takes `&self` first: write `async fn order(&self, ctx: &Context, data: T) -> Result<R>`
        Ok(())
    }
}
