use ksi_plugin_api::prelude::*;

#[derive(Default)]
struct Shop;

#[plugin]
impl Shop {
}

mod bank {
    use ksi_plugin_api::prelude::*;

    #[derive(Default)]
    struct Bank;

    #[plugin(name = "bank")]
    //~ at #[plugin(name = "bank")]
    //~ a_crate_has_one_plugin_so_put_the_other_into_a_crate_of_its_own
    impl Bank {}
}
