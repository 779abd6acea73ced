use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[snapshot(version = 0)]
    //~ at 0
    //~ a version lies between 1 and 4294967295
    async fn save(&self, ctx: &Context) -> Result<u64> {
        Ok(1)
    }
}
