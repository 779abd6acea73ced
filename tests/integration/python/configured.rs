//! Another configuration for a module that runs: it takes it as it is, or refuses it.

use std::fs;

use serde_json::{Value, json};

use super::is_there;
use crate::kit::TestHost;

const MODULE: &str = r#"
from ksi.events import event_handler

_settings = {}


def initialize(router, config):
    _settings.update(config or {})


@event_handler("module:configure")
async def configure(config):
    if config.get("word") == "bad":
        raise ValueError("it is a bad one")
    _settings.clear()
    _settings.update(config)


@event_handler("words:get")
async def get(data):
    return dict(_settings)
"#;

#[test]
fn a_module_takes_another_configuration_as_it_is_or_refuses_it() {
    if !is_there() {
        return;
    }
    let setup = TestHost::builder().config("[plugin.words]\nword = 'one'");
    fs::write(setup.plugins().join("words.py"), MODULE).unwrap();
    let host = setup.start();
    let word = || -> Value { host.client().emit("words:get", json!({}))["word"].clone() };
    let configure = |word: &str| {
        let toml = format!("[plugin.words]\nword = '{word}'");
        fs::write(host.dir().join("ksi.toml"), toml).unwrap();
        host.ksi(&["config", "reload"])
    };
    assert_eq!(word(), "one");
    let said = configure("two").ok();
    assert!(said.contains("words has taken its changed configuration"), "{said}");
    assert_eq!((word(), &host.module("words")["generation"]), (json!("two"), &json!(1)));
    let refused = configure("bad");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stdout.contains("it is a bad one"), "{refused:?}");
    assert_eq!(word(), "two");
}
