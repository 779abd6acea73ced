//! A program with a host inside: it handles an event itself, sends one to a plugin, and sees what
//! passes.
//!
//! `cargo build -p hello && cargo run -p embed -- target/debug`

use std::{error::Error, path::PathBuf};

use ksi_host::{ChildEntry, Failure, Host, NewEvent, Pattern, Watched};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    // First thing in `main`: this program is started again to try a plugin file before it is
    // loaded.
    let entry = ksi_host::answer_probe();
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("say in which folder the plugins are")?;
    tokio::runtime::Runtime::new()?.block_on(run(entry, folder))
}

async fn run(entry: ChildEntry, folder: PathBuf) -> Result<(), Box<dyn Error>> {
    let host = Host::builder(entry)
        .plugins(folder)
        // The program is one more participant: it answers events like a plugin, from the start on.
        .on("app:version", |_event| async { Ok::<_, Failure>(json!({ "version": "1.0" })) })?
        .start()
        .await?;

    // It may look on.
    let mut watch = host.watch(&[Pattern::parse("greet:*")?], 16);

    for (name, data) in
        [("app:version", json!({})), ("greet:request", json!({ "name": "embedder" }))]
    {
        let report = host.emit(NewEvent::json(name, &data)?).await;
        for outcome in report.outcomes() {
            println!("{name}: {} {}", outcome.result.code(), outcome.result.message());
        }
        for reply in report.replies() {
            println!("{name} -> {}", reply.decode::<Value>()?);
        }
        if report.unhandled() {
            println!("{name}: nobody handles it (is the plugin in the folder?)");
        }
    }
    while let Ok(Some(Watched::Event(event))) =
        tokio::time::timeout(std::time::Duration::from_millis(50), watch.next()).await
    {
        println!("seen: {} {:?}", event.name(), event.payload());
    }
    host.shutdown().await;
    Ok(())
}
