//! Several plugin crates in one link: a plugin that uses another one's event type, and a test of
//! both.

use std::fs;

use serde_json::json;

use crate::kit::{Library, OutsideCrate, TestHost, plugin_api, workspace};

const SHOP: &str = r#"
use ksi_plugin_api::prelude::*;

#[event("shop:order")]
pub struct Order { pub item: String }

#[derive(Default)]
pub struct Shop;

#[plugin]
impl Shop {
    #[event_handler]
    async fn order(&self, _: &Context, order: Order) -> Result<String> {
        Ok(format!("one {}", order.item))
    }
}
"#;

/// Sorts behind the crate that it depends on, as a name and as code: neither order may matter.
const WAREHOUSE: &str = r#"
use ksi_plugin_api::prelude::*;
use shop::Order;

#[derive(Default)]
pub struct Warehouse;

#[plugin]
impl Warehouse {
    #[event_handler("warehouse:fill")]
    async fn fill(&self, ctx: &Context, item: String) -> Result<String> {
        // A thread-local with a destructor, so that std takes a key of this library.
        thread_local!(static SEEN: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) });
        SEEN.with_borrow_mut(|seen| seen.push(1));
        ctx.request(Order { item }).await
    }
}
"#;

/// The test of both that the book shows.
fn test_of_both() -> String {
    let chapter = fs::read_to_string(workspace().join("docs/authors.md")).unwrap();
    let block = chapter.split("```rust,ignore\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.unwrap().replace("warehouse::W", "tested_warehouse::W");
    format!(
        "use ksi_harness::Harness;\nuse ksi_plugin_api::prelude::*;\n\n\
         #[test]\nfn the_warehouse_orders_in_the_shop() {{\n{block}}}\n"
    )
}

/// The shop, and the warehouse that depends on it. All packages are built into one folder, so each
/// test has its own names.
fn both(shop: &'static str, warehouse: &'static str) -> (OutsideCrate, OutsideCrate) {
    let api = format!("ksi-plugin-api = {{ path = {:?} }}", plugin_api());
    let types = ["cdylib", "rlib"];
    let shop_crate = OutsideCrate::with(shop, &types, &[&api], SHOP);
    let on_shop = format!("shop = {{ package = {shop:?}, path = {:?} }}", shop_crate.path());
    let warehouse = OutsideCrate::with(warehouse, &types, &[&api, &on_shop], WAREHOUSE);
    (shop_crate, warehouse)
}

#[test]
fn a_plugin_that_uses_the_event_type_of_another_exports_itself_alone() {
    let (shop, warehouse) = both("shop", "warehouse");
    let library = Library(warehouse.build(&[]));
    let host = TestHost::builder().plugin("libwarehouse.so", &library).start();
    host.until_live("warehouse", 1);
    assert_eq!(host.modules().len(), 1);
    host.drop_in("libshop.so", &Library(shop.build(&[])));
    host.until_live("shop", 1);
    assert_eq!(host.client().emit("warehouse:fill", json!("pen")), json!("one pen"));

    // Its name decides which plugin a library is, so a name that says nothing is refused, and says
    // what to do.
    host.drop_in("plugin.so", &library);
    let refused = host.until_refused("plugin.so");
    assert!(refused.contains("several plugins") && refused.contains("libCRATE.so"), "{refused}");

    host.ksi(&["reload", "warehouse"]).ok();
    host.until_unmapped("warehouse");
    assert_eq!(host.client().emit("warehouse:fill", json!("cup")), json!("one cup"));
}

#[test]
fn one_test_links_several_plugin_crates() {
    let (_shop, warehouse) = both("tested-shop", "tested-warehouse");
    let harness = plugin_api().join("harness");
    let harness = format!("[dev-dependencies]\nksi-harness = {{ path = {harness:?} }}\n");
    let manifest = warehouse.path().join("Cargo.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap() + &harness).unwrap();
    fs::create_dir(warehouse.path().join("tests")).unwrap();
    fs::write(warehouse.path().join("tests/both.rs"), test_of_both()).unwrap();
    let (passed, printed) = warehouse.cargo(&["test", "--test", "both"]);
    assert!(passed && printed.contains("1 passed"), "{printed}");
}
