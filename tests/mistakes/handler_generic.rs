use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order<T: Send>(&self, ctx: &Context, item: T) -> Result<()> {
    //~ at <T: Send>
    //~ a handler is not generic, the host calls it with one type
        Ok(())
    }
}
