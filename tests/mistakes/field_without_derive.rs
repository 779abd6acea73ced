//~ the first one
use ksi_plugin_api::prelude::*;

struct Line;

#[event("shop:order")]
struct Order {
    lines: Vec<Line>,
    //~ at Vec<Line>
    //~ `Vec<Line>` cannot be a field of an event or a payload
    //~ write #[payload] on what is your own in `Vec<Line>`
}
