use ksi_plugin_api::prelude::*;

fn check(item: &str) -> std::result::Result<(), String> {
    Ok(())
}

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
    #[event_handler("shop:order")]
    async fn order(&self, ctx: &Context, item: String) -> Result<()> {
        check(&item)?;
        //~ at ?
        //~ `?` couldn't convert the error
        //~ no `std::error::Error`: write `.map_err(Error::other)?`
        Ok(())
    }
}
