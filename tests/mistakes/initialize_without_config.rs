use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[initialize]
    async fn start(ctx: &Context) -> Result<Self> {
    //~ at ctx: &Context
    //~ #[initialize] takes two parameters, found 1
        Ok(Shop)
    }
}
