use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[snapshot]
    async fn save(&self, ctx: &Context) -> Result<&u64> {
    //~ at &u64
    //~ the snapshot is owned, not borrowed
        Ok(&1)
    }

    #[restore]
    async fn load(&self, ctx: &Context, saved: u64) -> Result<()> {
        Ok(())
    }
}
