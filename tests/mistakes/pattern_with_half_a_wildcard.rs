use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:ord*")]
    //~ at "shop:ord*"
    //~ `shop:ord*` is no pattern: in `ord*` a wildcard is not the whole segment
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
