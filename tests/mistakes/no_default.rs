use ksi_plugin_api::prelude::*;

struct Shop {
    till: std::net::TcpListener,
}

#[plugin]
impl Shop {
//~ at Shop
//~ `Shop` is built by nobody: the plugin has no #[initialize], and its type no `Default`
//~ derive `Default`, or write `#[initialize] async fn initialize(ctx: &Context, config: T) -> Result<Self>`
}
