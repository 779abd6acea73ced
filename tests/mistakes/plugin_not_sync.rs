//~ the first one
use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop {
    items: std::cell::RefCell<Vec<String>>,
}

#[plugin]
impl Shop {
//~ at Shop
//~ cannot be shared between threads safely
//~ use `std::sync::RwLock` instead
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        self.items.borrow_mut().push(item);
        Ok(())
    }
}
