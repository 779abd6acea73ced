use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    #[cfg(unix)]
    //~ at #[cfg(unix)]
    //~ a handler is there in every build: put the condition inside the method
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
