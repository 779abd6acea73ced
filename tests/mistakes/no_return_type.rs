use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) {}
    //~ at order
    //~ a handler returns `Result<R>`: write `-> Result<R>`
}
