use ksi_plugin_api::prelude::*;

struct Order {
    item: String,
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[snapshot]
    async fn save(&self, ctx: &Context) -> Result<Order> {
    //~ at Order
    //~ `Order` cannot be a snapshot
    //~ write #[payload] on `Order`
        Ok(Order { item: String::new() })
    }

    #[restore]
    async fn load(&self, ctx: &Context, saved: Order) -> Result<()> {
    //~ at Order
    //~ `Order` cannot be restored from a snapshot
    //~ write #[payload] on `Order`
        Ok(())
    }
}
