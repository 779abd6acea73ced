use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order", timeout = 5)]
    //~ at 5
    //~ `timeout` takes a string: write `timeout = "5s"`
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
