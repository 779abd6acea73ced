use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler(shop:order)]
    //~ at shop
    //~ an event's name is written in quotes: "shop:order"
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
