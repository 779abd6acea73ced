use ksi_plugin_api::prelude::*;

struct Shop;

#[plugin]
impl std::fmt::Debug for Shop {
//~ at std::fmt::Debug
//~ #[plugin] belongs on the struct's own impl block, not on a trait's
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
