use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("order")]
    //~ at "order"
    //~ `order` is no event name: it has one segment
    //~ write it like "greet:request"
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
