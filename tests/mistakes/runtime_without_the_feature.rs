use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin(runtime)]
//~ at #[plugin(runtime)]
//~ #[plugin(runtime)] needs the feature `runtime`: cargo add ksi-plugin-api --features runtime
impl Shop {
}
