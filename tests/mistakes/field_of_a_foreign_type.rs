//~ the first one
use ksi_plugin_api::prelude::*;

#[event("shop:order")]
struct Order {
    at: std::time::Instant,
    //~ at std::time::Instant
    //~ `Instant` cannot be a field of an event or a payload
    //~ #[serde(with
}
