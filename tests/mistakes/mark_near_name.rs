use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handlr("shop:order")]
    //~ at event_handlr
    //~ cannot find attribute `event_handlr`
    //~ a similar name exists
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
