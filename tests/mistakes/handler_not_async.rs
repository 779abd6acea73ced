use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    fn order(&self, ctx: &Context, item: String) -> Result<()> {
    //~ at fn
    //~ a handler is async: write `async fn order(&self, ctx: &Context, data: T) -> Result<R>`
        Ok(())
    }
}
