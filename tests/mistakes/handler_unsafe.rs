use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async unsafe fn order(&self, ctx: &Context, item: String) -> Result<()> {
    //~ at unsafe
    //~ a handler is a safe function
        Ok(())
    }
}
