use ksi_plugin_api::prelude::*;

struct Shop<T>(T);

#[plugin]
impl<T: Send> Shop<T> {
//~ at Shop<T>
//~ a plugin is one type, so that the host can build it: write an impl block without generics
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        Ok(())
    }
}
