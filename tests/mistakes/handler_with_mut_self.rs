use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&mut self, ctx: &Context, item: String) -> Result<()> {
    //~ at &mut self
    //~ a handler takes `&self`, because calls run side by side; keep what changes in an atomic or a mutex
        Ok(())
    }
}
