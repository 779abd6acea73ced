//! How often an emit allocates. Clocks cannot be trusted where tests run; allocations are the same
//! everywhere, and whatever makes the way of an event longer mostly shows in them.

use std::process::Command;

use serde_json::Value;

use crate::kit::artifacts;

/// In an unoptimized build, in the host and both plugins together, of which what serde_json needs
/// for the four conversions of a 137-byte payload is 16.
const JSON: f64 = 13.0;
/// The same for plain data of a type that both plugins share.
const TYPED: f64 = 1.0;

#[test]
fn an_emit_to_a_ready_handler_allocates_no_more_than_it_did() {
    let mut count = Command::new(artifacts().of("ksi-bench-allocations"));
    count.arg("--emitter").arg(artifacts().of("ksi-bench-emitter"));
    count.arg("--handlers").arg(artifacts().of("ksi-bench-handlers"));
    let output = count.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |what: &str| counted[what]["all"].as_f64().unwrap();
    assert!(of("json") <= JSON && of("typed") <= TYPED, "{counted:#}");
    assert_eq!(of("boxed"), 2.0, "a shared event and a boxed future: the count is right");
}
