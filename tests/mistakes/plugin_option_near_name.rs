use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin(exclusiv)]
//~ at exclusiv
//~ `exclusiv` is no option, did you mean `exclusive`?
impl Shop {
}
