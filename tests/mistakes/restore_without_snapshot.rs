use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[restore]
    async fn load(&self, ctx: &Context, saved: u64) -> Result<()> {
    //~ at load
    //~ `load` has nothing to restore, because the plugin takes no snapshots: add `#[snapshot(version = 1)]
        Ok(())
    }
}
