use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order", priority = 3000000000)]
    //~ at 3000000000
    //~ `priority` must lie between -2147483648 and 2147483647
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
