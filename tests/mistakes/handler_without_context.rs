use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, item: String) -> Result<()> {
    //~ at &self, item: String
    //~ a handler takes two parameters beside `self`, found 1: write `async fn order(&self, ctx: &Context, data: T) -> Result<R>`
        Ok(())
    }
}
