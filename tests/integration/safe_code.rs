//! That safe code cannot do what breaks the host: programs that did, and that the compiler refuses.

use crate::kit::{OutsideCrate, plugin_api};

/// What each of these programs keeps, mixes up or ends too early was a crash of the host, or memory
/// that is used after it was freed. A program comes with all that the compiler has against it.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    (
        "a plugin written by hand keeps itself and its context beyond its instance",
        "use std::sync::Mutex;
         use ksi_plugin_api::{Handler, Plugin, PluginRef, prelude::*, __private::{RawConfig, Restore, Snapshot}};
         pub struct Kept;
         static KEPT: Mutex<Option<(PluginRef<Kept>, Context)>> = Mutex::new(None);
         impl Plugin for Kept {
             const NAME: &'static str = \"kept\";
             const VERSION: &'static str = \"1.0.0\";
             const RUNTIME: bool = false;
             const EMITS: &'static [&'static str] = &[];
             const EMIT_SCHEMAS: &'static [fn() -> ksi_plugin_api::__private::SentSchemas] = &[];
             const REQUIRES: &'static [&'static str] = &[];
             const EMIT_TYPES: &'static [fn() -> Option<ksi_plugin_api::__private::TypeDescription>] = &[];
             const REPLY_SCHEMAS: &'static [fn() -> Value] = &[];
             const SNAPSHOTS: &'static [Snapshot<Self>] = &[Snapshot {
                 version: 1,
                 call: |taking| taking.run::<u8, _, _>(|plugin, ctx| {
                     *KEPT.lock().unwrap() = Some((plugin, ctx));
                     async { Ok(1) }
                 }),
             }];
             const RESTORES: &'static [Restore<Self>] = &[Restore {
                 version: 1,
                 call: |restoring| restoring.run::<u8, _, _>(|plugin, ctx, _| {
                     *KEPT.lock().unwrap() = Some((plugin, ctx));
                     async { Ok(()) }
                 }),
                 read: |_| Ok(()),
             }];
             const HANDLERS: &'static [Handler<Self>] = &[Handler {
                 name: \"keep\", summary: \"\", subscriptions: &[\"a:keep\"], priority: 0, timeout_ms: 0,
                 blocking: false, payload_schema: || json!(null), reply_schema: Default::default,
                 payload_type: || ksi_plugin_api::__private::type_of::<()>(None),
                 call: |call| call.run::<u8, _, _>(|_| None, |plugin, ctx, give| {
                     *KEPT.lock().unwrap() = Some((plugin, ctx));
                     async move { ksi_plugin_api::__private::handler_end::<u8>(Ok(1), give) }
                 }),
             }];
             async fn initialize(_: Context, _: RawConfig) -> Result<Self> { Ok(Kept) }
         }",
        &["Call::<'_, P>::run` is unsafe", "Restoring::<'_, P>::run` is unsafe", "Taking::<'_, P>::run` is unsafe"],
    ),
    (
        "an instance is dropped while a call of it is pending",
        "use ksi_abi::{HostRef, Instance, ModuleRef, module};
         pub async fn make(plugin: ModuleRef, host: HostRef) -> Option<Instance> {
             module::create(plugin, host, b\"{}\").await.ok()
         }",
        &["create` is unsafe"],
    ),
    (
        "an event of one host is given to another one",
        "use ksi_abi::{Content, EventHandle, HostRef, To};
         pub fn send(host: &HostRef, other: &EventHandle) {
             let _ = host.send(Some(other), To::Name(\"a:b\"), Content::Bytes(\"1\".into()), None);
         }",
        &["HostRef::send` is unsafe"],
    ),
    (
        "a route of one host is given to another one",
        "use std::task::Context;
         use ksi_abi::{Content, HostRef, ReplyForm, To};
         pub fn ask(host: &HostRef, other: &HostRef, cx: &mut Context<'_>) {
             let route = other.resolve(\"a:b\").unwrap();
             let _ = host.emit(None, To::Route(&route), Content::Bytes(\"1\".into()), None, cx);
             let content = Content::Bytes(\"1\".into());
             let _ = host.request(None, To::Route(&route), content, None, &ReplyForm::Json, cx);
         }",
        &["HostRef::emit` is unsafe", "HostRef::request` is unsafe"],
    ),
    (
        "a library of its own kind hands out its instance",
        "use std::sync::Mutex;
         use ksi_abi::{Buffer, CallEnd, CallStart, EventHandle, HostRef,
             export::{Exported, FailureTexts, FirstPoll, Shared}};
         static KEPT: Mutex<Option<Shared<Kept>>> = Mutex::new(None);
         pub struct Kept;
         impl Exported for Kept {
             fn describe() -> Result<Buffer, FailureTexts> { Ok(\"{}\".into()) }
             fn enter_library(_: &HostRef) {}
             fn log_level_changed() {}
             fn leave_library() {}
             async fn create(_: HostRef, _: Vec<u8>) -> Result<Self, FailureTexts> { Ok(Kept) }
             unsafe fn call(this: Shared<Self>, _: u64, _: EventHandle, _: FirstPoll<'_>) -> CallStart {
                 *KEPT.lock().unwrap() = Some(this);
                 CallEnd::NoReply.into()
             }
             fn snapshot(_: Shared<Self>, _: u32, _: FirstPoll<'_>) -> CallStart { CallEnd::NoReply.into() }
             fn restore(_: Shared<Self>, _: u32, _: &[u8], _: FirstPoll<'_>) -> CallStart {
                 CallEnd::NoReply.into()
             }
             fn read_back(_: u32, _: &[u8]) -> Result<(), FailureTexts> { Ok(()) }
         }",
        &["the trait `Exported` requires an `unsafe impl` declaration"],
    ),
    (
        "what an instance keeps is held without a count",
        "use std::sync::Arc;
         use ksi_abi::export::{LentArc, Shared};
         pub fn held(instance: &Arc<u8>) -> LentArc<u8> { LentArc::of(Shared::new(instance), |it| it) }",
        &["LentArc::<T>::of` is unsafe", "Shared::<T>::new` is unsafe"],
    ),
    (
        "the keys of a library that runs are given back",
        "pub fn give_back() { ksi_abi::unload::glibc::keys::delete_keys() }",
        &["delete_keys` is unsafe"],
    ),
];

#[test]
fn what_would_break_the_host_takes_unsafe_code() {
    let (api, abi) = (plugin_api(), plugin_api().join("abi"));
    let dependencies = [
        format!("ksi-plugin-api = {{ path = {api:?} }}"),
        format!("ksi-abi = {{ path = {abi:?} }}"),
    ];
    let package =
        OutsideCrate::with("broken", &["cdylib"], &dependencies.each_ref().map(String::as_str), "");
    for (what, program, expected) in PROGRAMS {
        package.write(program);
        let mut said = package.mistakes();
        said.sort();
        assert_eq!(said.len(), expected.len(), "{what}: {said:#?}");
        for (mistake, words) in said.iter().zip(*expected) {
            assert!(mistake.contains(words), "{what}: {mistake}");
        }
    }
}
