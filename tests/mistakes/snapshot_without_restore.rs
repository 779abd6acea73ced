use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[snapshot]
    async fn save(&self, ctx: &Context) -> Result<u64> {
    //~ at save
    //~ nothing restores the snapshots that `save` takes, of version 1: add `#[restore(version = 1)]
        Ok(1)
    }
}
