use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop {
    items: std::sync::Mutex<Vec<String>>,
}

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
    //~ at order
    //~ future cannot be sent between threads safely
    //~ await occurs here, with `mut items` maybe used later
        let mut items = self.items.lock().unwrap();
        ctx.emit(named("shop:ordered", &item)).await;
        items.push(item);
        Ok(())
    }
}
