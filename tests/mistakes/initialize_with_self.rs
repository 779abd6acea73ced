use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[initialize]
    async fn start(&self, ctx: &Context, config: Value) -> Result<Self> {
    //~ at &self
    //~ #[initialize] builds the plugin, there is no `self` yet: write `async fn start(ctx: &Context, config: T) -> Result<Self>`
        Ok(Shop)
    }
}
