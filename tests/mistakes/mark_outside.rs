use ksi_plugin_api::prelude::*;

#[event_handler("shop:order")]
//~ at #[event_handler("shop:order")]
//~ #[event_handler] belongs on a method inside a #[plugin] impl block
async fn order(item: String) {}
