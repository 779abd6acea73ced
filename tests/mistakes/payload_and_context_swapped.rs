use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, item: String, ctx: &Context) -> Result<()> {
    //~ at String
    //~ the context comes before the payload: write `async fn order(&self, ctx: &Context, data: T) -> Result<R>`
        Ok(())
    }
}
