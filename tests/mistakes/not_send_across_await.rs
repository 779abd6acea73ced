use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
    //~ at order
    //~ future cannot be sent between threads safely
    //~ has type `Rc<std::string::String>` which is not `Send`
        let item = std::rc::Rc::new(item);
        ctx.sleep(std::time::Duration::from_secs(1)).await;
        drop(item);
        Ok(())
    }
}
