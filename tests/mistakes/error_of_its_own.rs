use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<(), String> {
    //~ at Result<(), String>
    //~ a handler returns `Result<R>`, with `Result` from `ksi_plugin_api`
        Ok(())
    }
}
