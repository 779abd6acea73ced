#![deny(unused_must_use)]
use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        ctx.emit(named("shop:ordered", &item));
        //~ at ctx.emit(named("shop:ordered", &item))
        //~ futures do nothing unless you `.await` or poll them
        Ok(())
    }
}
