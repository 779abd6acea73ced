use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    #[initialize]
    //~ at #[initialize]
    //~ one mark on a method is enough
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
