use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order", prio = 3)]
    //~ at prio
    //~ `prio` is no option, did you mean `priority`?
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
