use ksi_plugin_api::prelude::*;

#[plugin]
//~ at #[plugin]
//~ #[plugin] belongs on the impl block with the handlers, as in `#[plugin] impl Greeter { .. }`
struct Shop;
