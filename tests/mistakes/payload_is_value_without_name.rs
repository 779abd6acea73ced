use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler]
    async fn order(&self, ctx: &Context, data: Value) -> Result<()> {
    //~ at Value
    //~ carries no event name
    //~ #[event_handler("ns:name")]
        Ok(())
    }
}
