use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[initialize]
    async fn start(ctx: &Context, config: Value) -> Result<()> {
    //~ at ()
    //~ #[initialize] builds the plugin itself: write `-> Result<Self>`
        Ok(())
    }
}
