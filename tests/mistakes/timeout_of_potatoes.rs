use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order", timeout = "2 potatoes")]
    //~ at "2 potatoes"
    //~ `2 potatoes` is no duration: write a whole number and `ms`, `s` or `m`, like "500ms"
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
