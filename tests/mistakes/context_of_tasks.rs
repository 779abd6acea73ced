use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, cx: &mut std::task::Context<'_>, item: String) -> Result<()> {
    //~ at &mut std::task::Context<'_>
    //~ the context comes by reference: write `cx: &Context`, with `Context` from `ksi_plugin_api`
        Ok(())
    }
}
