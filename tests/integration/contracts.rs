//! Contracts: what a plugin sends and another takes, compared before a version goes live.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::kit::{HostBuilder, Library, OutsideCrate, TestHost, error_of, put, until};

/// A plugin that sends `order:placed` with this field beside its number, and replies with the same.
fn shop(version: &str, field: &str) -> String {
    format!(
        r#"
use ksi_plugin_api::prelude::*;

#[event("order:placed")]
struct Placed {{ number: u32, {field} }}

#[event("shop:buy")]
struct Buy {{ number: u32 }}

#[derive(Default)]
struct Shop;

#[plugin(name = "shop", version = "{version}", emits(Placed))]
impl Shop {{
    #[event_handler]
    async fn buy(&self, ctx: &Context, buy: Buy) -> Result<Placed> {{
        let placed: Placed = serde_json::from_value(json!({{"number": buy.number, "total": 7, "cents": 700}}))?;
        ctx.emit(&placed).await;
        Ok(placed)
    }}
}}
"#
    )
}

/// A plugin that takes `order:placed` with this field, and reads the reply to `shop:buy` so.
fn stock(version: &str, field: &str) -> String {
    format!(
        r#"
use ksi_plugin_api::prelude::*;

#[event("order:placed")]
struct Placed {{ number: u32, {field} }}

#[payload]
struct Bought {{ number: u32 }}

#[derive(Default)]
struct Stock(std::sync::atomic::AtomicU32);

#[plugin(name = "stock", version = "{version}", requires("shop:buy" -> Bought))]
impl Stock {{
    #[event_handler]
    async fn note(&self, _: &Context, _placed: Placed) -> Result<()> {{
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }}

    #[event_handler("stock:noted")]
    async fn noted(&self, _: &Context, _: Value) -> Result<u32> {{
        Ok(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }}
}}
"#
    )
}

pub(crate) struct Built {
    /// Sends `total`, does not, and sends `cents` in place of it.
    pub(crate) shop: [Library; 3],
    /// Requires `total`, does not, requires `cents`, and requires `total` by a new name.
    pub(crate) stock: [Library; 4],
}

/// One that does not send what the other one requires.
pub(crate) fn two_that_do_not_agree() -> [Library; 2] {
    [built().shop[1].clone(), built().stock[0].clone()]
}

pub(crate) fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        let api = format!(
            "ksi-plugin-api = {{ path = {:?} }}\nserde_json = \"1\"",
            crate::kit::plugin_api()
        );
        let shop_of = |version: &str, field: &str| {
            let made =
                OutsideCrate::with("contract-shop", &["cdylib"], &[&api], &shop(version, field));
            Library(made.build(&[]))
        };
        let stock_of = |version: &str, field: &str| {
            let made =
                OutsideCrate::with("contract-stock", &["cdylib"], &[&api], &stock(version, field));
            Library(made.build(&[]))
        };
        Built {
            shop: [
                shop_of("1.0.0", "total: u32"),
                shop_of("2.0.0", ""),
                shop_of("3.0.0", "cents: u32"),
            ],
            stock: [
                stock_of("1.0.0", "total: u32"),
                stock_of("2.0.0", "total: Option<u32>"),
                stock_of("3.0.0", "cents: u32"),
                stock_of("4.0.0", "#[serde(alias = \"total\")] amount: u32"),
            ],
        }
    })
}

/// A host with a plugin that sends `order:placed` and one that takes it.
pub(crate) fn host(config: &str) -> TestHost {
    let host = plugins(TestHost::builder()).config(config).start();
    host.until_live("shop", 1);
    host.until_live("stock", 1);
    host
}

/// The shop and the stock, for a host that has more.
pub(crate) fn plugins(host: HostBuilder) -> HostBuilder {
    let built = built();
    host.plugin("shop.so", &built.shop[0]).plugin("stock.so", &built.stock[0])
}

fn last_error(host: &TestHost, plugin: &str) -> String {
    let module =
        until("the file is refused", || host.module(plugin), |it| it["last_error"].is_string());
    module["last_error"].as_str().unwrap().to_owned()
}

#[test]
fn a_version_that_no_longer_sends_what_a_live_plugin_requires_is_refused_in_one_message() {
    let host = host("");
    host.drop_in("shop.so", &built().shop[1]);
    let error = last_error(&host, "shop");
    for part in [
        "2.0.0 of shop",
        "stock 1.0.0",
        "`note`",
        "order:placed",
        "/total",
        "removed",
        "{\"number\":",
    ] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    assert_eq!(host.module("shop")["version"], "1.0.0");
    let mut client = host.client();
    assert_eq!(client.emit("shop:buy", json!({"number": 1}))["total"], 7);
    assert_eq!(client.emit("stock:noted", json!({})), 1);
}

#[test]
fn a_file_that_was_refused_for_another_plugin_goes_live_when_that_one_changes() {
    let host = host("");
    host.drop_in("shop.so", &built().shop[1]);
    last_error(&host, "shop");
    host.drop_in("stock.so", &built().stock[1]);
    host.until_version("stock", "2.0.0");
    host.until_version("shop", "2.0.0");
    assert_eq!(host.module("shop")["last_error"], Value::Null);
}

#[test]
fn a_version_that_requires_more_than_a_live_plugin_sends_is_refused() {
    let host = host("");
    host.drop_in("stock.so", &built().stock[2]);
    let error = last_error(&host, "stock");
    for part in ["shop 1.0.0", "sends order:placed", "`note` of this version", "/cents"] {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
    // What takes more passes.
    host.drop_in("stock.so", &built().stock[1]);
    host.until_version("stock", "2.0.0");
}

/// The way that docs/upgrades.md recommends.
#[test]
fn a_field_with_a_new_name_is_taken_by_both_from_live_plugins_and_from_clients() {
    let host = host("[contracts]\nvalidate = 'clients'");
    host.drop_in("stock.so", &built().stock[3]);
    assert_eq!(host.until_version("stock", "4.0.0")["notices"], json!([]));
    let mut client = host.client();
    client.emit("shop:buy", json!({"number": 1}));
    for name in ["total", "amount"] {
        let taken = client.reply("order:placed", json!({"number": 1, name: 7}));
        assert_ne!(taken["failed"], true, "{name}: {taken}");
    }
    assert_eq!(client.emit("stock:noted", json!({})), 3);
    for refused in [json!({"number": 1}), json!({"number": 1, "total": "seven"})] {
        let reply = client.reply("order:placed", refused);
        assert_eq!(reply["data"]["code"], "invalid_payload", "{reply}");
        assert!(error_of(&reply).contains("contracts.validate"), "{reply}");
    }
    // Whoever sends neither is still refused.
    host.drop_in("shop.so", &built().shop[1]);
    let error = last_error(&host, "shop");
    for part in ["breaks a contract", "order:placed", "/amount: removed: it or `total` is required"]
    {
        assert!(error.contains(part), "{part} is missing: {error}");
    }
}

#[test]
fn the_policy_of_a_plugin_or_an_event_lets_a_broken_contract_pass_with_a_warning() {
    for config in [
        "[contracts.plugins.stock]\npolicy = 'warn'",
        "[contracts.events.'order:*']\npolicy = 'warn'",
    ] {
        let host = host(config);
        host.drop_in("shop.so", &built().shop[1]);
        let module = host.until_version("shop", "2.0.0");
        let notices = module["notices"].to_string();
        assert!(notices.contains("stock 1.0.0") && notices.contains("/total"), "{module}");
    }
    let host = host("[contracts]\npolicy = 'off'\nclients = 'off'");
    host.drop_in("shop.so", &built().shop[1]);
    assert_eq!(host.until_version("shop", "2.0.0")["notices"], json!([]));
}

#[test]
fn what_clients_could_send_and_can_no_longer_is_a_warning() {
    let host = host("[contracts]\npolicy = 'off'");
    host.drop_in("stock.so", &built().stock[2]);
    let module = host.until_version("stock", "3.0.0");
    let notices = module["notices"].to_string();
    for part in ["clients could send order:placed", "/cents"] {
        assert!(notices.contains(part), "{part} is missing: {notices}");
    }
}

#[test]
fn going_back_by_hand_to_a_version_that_breaks_a_contract_is_refused_unless_it_is_forced() {
    let host = host("");
    host.drop_in("stock.so", &built().stock[1]);
    host.until_version("stock", "2.0.0");
    host.drop_in("shop.so", &built().shop[1]);
    host.until_version("shop", "2.0.0");
    let refused = host.ksi(&["rollback", "stock"]).fails(1);
    assert!(refused.contains("shop 2.0.0") && refused.contains("/total"), "{refused}");
    assert_eq!(host.module("stock")["version"], "2.0.0");
    host.ksi(&["rollback", "stock", "--force"]).ok();
    host.until_version("stock", "1.0.0");
}

#[test]
fn a_pair_that_must_change_together_goes_live_by_one_swap_or_not_at_all() {
    let host = host("");
    let built = built();
    let path = |name: &str| host.file(name).to_str().unwrap().to_owned();
    let (shop, stock) = (path("shop.so"), path("stock.so"));
    // Neither goes alone,
    host.drop_in("shop.so", &built.shop[2]);
    assert!(last_error(&host, "shop").contains("breaks a contract"));
    // nor with one that it does not fit to,
    let refused = host.ksi(&["load", &shop, &stock]).fails(1);
    assert!(refused.contains("none of the files") && refused.contains("/total"), "{refused}");
    host.drop_in("stock.so", &built.stock[2]);
    assert!(last_error(&host, "stock").contains("breaks a contract"));
    for plugin in ["shop", "stock"] {
        assert_eq!(host.module(plugin)["version"], "1.0.0");
    }
    let told = host.ksi(&["load", &shop, &stock]).ok();
    assert!(told.contains("loaded shop 3.0.0") && told.contains("loaded stock 3.0.0"), "{told}");
    let mut client = host.client();
    assert_eq!(client.emit("shop:buy", json!({"number": 1}))["cents"], 700);
    assert_eq!(client.emit("stock:noted", json!({})), 1);
    host.until_unmapped("shop");
    host.until_unmapped("stock");
}

/// A plugin with state that counts its calls, each of which goes on to the other one.
fn player(own: &str, other: &str) -> String {
    format!(
        r#"
use ksi_plugin_api::prelude::*;
use std::sync::atomic::{{AtomicU64, Ordering::Relaxed}};

#[payload]
struct Ball {{ left: u32 }}

#[derive(Default)]
struct Player(AtomicU64);

#[plugin(name = "{own}")]
impl Player {{
    #[event_handler("{own}:ball")]
    async fn ball(&self, ctx: &Context, ball: Ball) -> Result<u32> {{
        self.0.fetch_add(1, Relaxed);
        ctx.sleep(std::time::Duration::from_millis(1)).await;
        if ball.left > 0 {{
            let next = Ball {{ left: ball.left - 1 }};
            let _: u32 = ctx.request(named("{other}:ball", &next)).await?;
        }}
        Ok(ball.left)
    }}

    #[event_handler("{own}:count")]
    async fn count(&self, _: &Context, _: Value) -> Result<u64> {{
        Ok(self.0.load(Relaxed))
    }}

    #[snapshot(version = 1)]
    async fn snapshot(&self, _: &Context) -> Result<u64> {{
        Ok(self.0.load(Relaxed))
    }}

    #[restore(version = 1)]
    async fn restore(&self, _: &Context, count: u64) -> Result<()> {{
        self.0.store(count, Relaxed);
        Ok(())
    }}
}}
"#
    )
}

fn players() -> &'static [Library; 2] {
    static BUILT: OnceLock<[Library; 2]> = OnceLock::new();
    BUILT.get_or_init(|| {
        let api = format!("ksi-plugin-api = {{ path = {:?} }}", crate::kit::plugin_api());
        [("ping", "contract-ping", "pong"), ("pong", "contract-pong", "ping")].map(
            |(own, name, other)| {
                let made = OutsideCrate::with(name, &["cdylib"], &[&api], &player(own, other));
                Library(made.build(&[]))
            },
        )
    })
}

#[test]
fn no_more_events_wait_for_the_state_of_another_plugin_than_the_operator_allows() {
    let [ping, _] = players();
    let host = TestHost::builder()
        .config("[limits]\nheld_events = 10\n[timeouts]\nhold = '60s'")
        .plugin("ping.so", ping)
        .plugin("counter.so", &Library::counter(1))
        .start();
    host.until_live("ping", 1);
    host.until_live("counter", 1);
    let slow = host.dir().join("slow.so");
    put(&slow, &Library::counter(2).does("restore_in_host=hang").0);
    fs::rename(host.file("counter.so"), host.dir().join("old.so")).unwrap();
    let (mut caller, mut other) = (host.client(), host.client());
    let load = json!({"path": slow, "with": [host.file("ping.so")]});
    let loading = caller.begin("module:load", load);
    // From the first that waits on, more than may do so come, and none is refused.
    let mut sent = 0;
    let one_more = || {
        other.begin("ping:ball", json!({"left": 0}));
        sent += 1;
        host.module("ping")["held"].as_u64()
    };
    until("an event is held", one_more, |held| *held > Some(0));
    let more: Vec<_> = (0..20).map(|_| other.begin("ping:ball", json!({"left": 0}))).collect();
    let loaded = caller.end(&loading);
    let told = loaded["data"]["error"].as_str().unwrap();
    assert!(told.contains("limits.held_events") && told.contains("of the others"), "{told}");
    for id in &more {
        assert!(!other.end(id)["data"].is_null(), "nothing is refused");
    }
    assert_eq!(caller.emit("ping:count", json!({})), sent + 20);
}

#[test]
fn plugins_with_state_that_call_one_another_are_replaced_as_one_under_load() {
    const BALLS: u64 = 4;
    let [ping, pong] = players();
    let host = TestHost::builder().plugin("ping.so", ping).plugin("pong.so", pong).start();
    host.until_live("ping", 1);
    host.until_live("pong", 1);
    let done = AtomicBool::new(false);
    let played: u64 = std::thread::scope(|scope| {
        let players: Vec<_> = ["ping:ball", "pong:ball", "ping:ball", "pong:ball"]
            .map(|event| {
                let mut client = host.client();
                let done = &done;
                scope.spawn(move || {
                    let mut played = 0;
                    while !done.load(Ordering::Relaxed) {
                        client.emit(event, json!({"left": BALLS - 1}));
                        played += 1;
                    }
                    played
                })
            })
            .into();
        let mut client = host.client();
        let load = json!({"path": host.file("ping.so"), "with": [host.file("pong.so")]});
        for generation in 2..22 {
            let loaded = client.emit("module:load", load.clone());
            assert_eq!(loaded["generation"], generation);
            assert_eq!(loaded["with"][0]["generation"], generation, "{loaded}");
        }
        done.store(true, Ordering::Relaxed);
        players.into_iter().map(|player| player.join().unwrap()).sum()
    });
    let mut client = host.client();
    let count: u64 = ["ping:count", "pong:count"]
        .map(|event| client.emit(event, json!({})).as_u64().unwrap())
        .iter()
        .sum();
    assert_eq!(count, played * BALLS, "every call is in the state of who is live");
    host.until_unmapped("ping");
    host.until_unmapped("pong");
}

#[test]
fn of_files_that_do_not_go_live_together_none_is_tried_alone_later() {
    // One of them is given a configuration that it does not take.
    let host = TestHost::builder()
        .plugin("shop.so", &built().shop[0])
        .config("[contracts]\npolicy = 'off'\n[recovery]\nfirst = '10ms'\n[plugin.stock]\nx = 1")
        .start();
    host.until_live("shop", 1);
    let stock = host.dir().join("stock.so");
    std::fs::write(&stock, &built().stock[0].0).unwrap();
    let files = [host.file("shop.so"), stock];
    let [shop, stock] = files.each_ref().map(|file| file.to_str().unwrap());
    let refused = host.ksi(&["load", shop, stock]).fails(1);
    assert!(refused.contains("none of the files") && refused.contains("initialize"), "{refused}");
    // A try of its own is noted, and one that failed is tried again.
    let told = host.ksi(&["load", stock]).fails(1);
    assert!(!told.contains("none of the files"), "{told}");
    let log = host.process.told("trying again");
    let before = log.split("trying again").next().unwrap().matches("did not initialize").count();
    assert_eq!(before, 2, "once together and once alone: {log}");
    assert_eq!(host.module("shop")["generation"], 1);
}

#[test]
fn a_file_that_was_refused_goes_live_when_the_operator_lets_it() {
    let host = host("");
    host.drop_in("shop.so", &built().shop[1]);
    last_error(&host, "shop");
    std::fs::write(host.dir().join("ksi.toml"), "[contracts]\npolicy = 'warn'").unwrap();
    host.ksi(&["config", "reload"]).ok();
    host.until_version("shop", "2.0.0");
}

#[test]
fn what_was_unloaded_does_not_come_back_when_the_other_side_of_its_contract_changes() {
    let host = host("");
    host.drop_in("shop.so", &built().shop[2]);
    last_error(&host, "shop");
    host.drop_in("stock.so", &built().stock[2]);
    last_error(&host, "stock");
    host.ksi(&["unload", "stock"]).ok();
    // Nobody takes any more what it does not send.
    host.until_version("shop", "3.0.0");
    host.drop_in("shop.so", &built().shop[2].clone());
    host.ksi(&["reload", "shop"]).ok();
    assert_eq!(host.module("stock")["state"], "unloaded");
}
