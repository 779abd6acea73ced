//! What the host may ask of a plugin: the root module of its library.

use std::{future::Future, task::Context};

// What a library's symbol is, for whoever opens it.
pub use abi_stable::library::AbiHeaderRef;
use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals},
    library::RootModule,
    package_version_strings,
    sabi_types::VersionStrings,
    std_types::{RSlice, RSliceMut},
    type_layout::TypeLayout,
};

use super::{
    BoundaryFuture, Buffer, EventHandle, Failure, HostRef, ReplyForm, Start, Value,
    memory::Memory,
    scratch::{self, Scratch},
    signals::SignalHost,
    unload::{Remains, StartedThread},
    waker::{LentWaker, WakerBase, unwrapped},
};

/// How a call ended.
#[repr(C, u64)]
#[derive(StableAbi, Debug)]
pub enum CallEnd {
    /// With this reply, encoded.
    Reply(Buffer),
    /// With this reply, as a value.
    Value(Value),
    /// Well, without a reply.
    NoReply,
    /// With an error: a code for programs, a message for people.
    Failed(Failure),
    /// With a panic.
    Panicked(Buffer),
}

impl CallEnd {
    /// The same end with the reply encoded, by its maker's code if it came as a value. A value
    /// without an encoding is a failure.
    pub fn encoded(self) -> CallEnd {
        match self {
            CallEnd::Value(value) => match value.encode() {
                Ok(reply) => CallEnd::Reply(reply),
                Err(failure) => CallEnd::Failed(failure),
            },
            end => end,
        }
    }
}

/// How a call began. A handler that is ready at its first poll costs no future.
///
/// It is flat, a [`CallEnd`] with one case more, so that it comes back in two registers.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum CallStart {
    /// It has ended already, as in [`CallEnd`].
    Reply(Buffer),
    /// As above.
    Value(Value),
    /// As above.
    NoReply,
    /// As above.
    Failed(Failure),
    /// As above.
    Panicked(Buffer),
    /// It goes on; the waker that was given is registered.
    Pending(BoundaryFuture<CallEnd>),
}

impl From<CallEnd> for CallStart {
    #[inline]
    fn from(end: CallEnd) -> Self {
        match end {
            CallEnd::Reply(reply) => CallStart::Reply(reply),
            CallEnd::Value(value) => CallStart::Value(value),
            CallEnd::NoReply => CallStart::NoReply,
            CallEnd::Failed(failure) => CallStart::Failed(failure),
            CallEnd::Panicked(message) => CallStart::Panicked(message),
        }
    }
}

impl CallStart {
    /// The same, with what has ended apart.
    #[inline]
    pub fn into_start(self) -> Start<CallEnd, BoundaryFuture<CallEnd>> {
        Start::Ready(match self {
            CallStart::Reply(reply) => CallEnd::Reply(reply),
            CallStart::Value(value) => CallEnd::Value(value),
            CallStart::NoReply => CallEnd::NoReply,
            CallStart::Failed(failure) => CallEnd::Failed(failure),
            CallStart::Panicked(message) => CallEnd::Panicked(message),
            CallStart::Pending(future) => return Start::Pending(future),
        })
    }
}

/// How the making of an instance ended.
#[repr(C, u64)]
#[derive(StableAbi)]
pub enum CreateEnd {
    /// The instance, to be passed to the module's other functions.
    Created(InstancePointer),
    /// With an error: a code for programs, a message for people.
    Failed(Failure),
}

/// A plugin's instance as the host carries it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct InstancePointer(pub(super) *mut ());

// SAFETY: `Exported` types are `Send + Sync`.
unsafe impl Send for InstancePointer {}
// SAFETY: as above.
unsafe impl Sync for InstancePointer {}

/// The functions of a plugin's library, all of which every library has.
///
/// One that is appended without a new number of the ABI goes behind `bind_signals`, and is one that
/// may be missing.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// A description for people and programs, encoded. Needs no instance.
    pub(super) describe: extern "C" fn(&'static Memory) -> CallEnd,
    /// Makes the instance from the plugin's configuration, encoded.
    pub(super) create:
        extern "C" fn(&'static Memory, HostRef, RSlice<'_, u8>) -> BoundaryFuture<CreateEnd>,
    /// Calls a handler: instance, number of the handler, event, waker, a block for the first poll,
    /// and the form of the reply.
    pub(super) call: unsafe extern "C" fn(
        *const (),
        u64,
        EventHandle,
        *const WakerBase,
        &mut Scratch,
        &ReplyForm,
    ) -> CallStart,
    /// Drops an instance and what the library keeps beside it.
    pub(super) destroy: unsafe extern "C" fn(*mut ()),
    /// Takes a snapshot of an instance's state, of this version.
    pub(super) snapshot: unsafe extern "C" fn(*const (), u32, *const WakerBase) -> CallStart,
    /// Restores an instance's state from a snapshot of this version. The bytes are lent for this
    /// call alone, not for the future that it may give.
    pub(super) restore:
        unsafe extern "C" fn(*const (), u32, RSlice<'_, u8>, *const WakerBase) -> CallStart,
    /// Reads a snapshot of this version as `restore` does, and changes nothing. The bytes are lent
    /// for this call alone. Needs no instance, but the library must have made one before.
    pub(super) read_back: extern "C" fn(u32, RSlice<'_, u8>) -> CallEnd,
    /// What the C library and the kernel still have of the library, which is about to be closed;
    /// the threads among it, as far as there is room.
    pub(super) before_close: extern "C" fn(RSliceMut<'_, StartedThread>) -> Remains,
    /// Makes known whom the library asks when its code installs a signal handler.
    #[sabi(last_prefix_field)]
    pub(super) bind_signals: extern "C" fn(&'static SignalHost),
    /// The host listens to another level of the log than before: the library asks for it anew.
    #[sabi(missing_field(option))]
    pub(super) log_level_changed: extern "C" fn(),
}

impl RootModule for ModuleRef {
    abi_stable::declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "ksi_plugin";
    const NAME: &'static str = "ksi_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Checks that a library whose root module has the layout `found` can be used as a [`ModuleRef`].
///
/// abi_stable takes it that the host is the older one of the two, and refuses a module of fewer
/// functions than the host knows. Here either may be the older one: functions are appended alone,
/// and asked for before they are called. So it is enough that one layout is the other with more
/// behind it.
///
/// Nothing is kept of `found`, so its library may be closed afterwards.
///
/// # Errors
/// What differs. It may have hundreds of lines.
pub fn check_layout(found: &'static TypeLayout) -> Result<(), String> {
    check_layouts(ModuleRef::LAYOUT, found)
}

/// The same for any layout that crosses.
pub(super) fn check_layouts(
    ours: &'static TypeLayout,
    found: &'static TypeLayout,
) -> Result<(), String> {
    // Fresh tables, dropped at once: abi_stable's global ones would keep pointers into the library.
    let check = |interface, implementation| {
        check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new())
    };
    check(ours, found)
        .or_else(|differences| check(found, ours).map_err(|_| differences.to_string()))
}

/// The description that a library gives of itself.
pub fn describe(module: ModuleRef) -> CallEnd {
    (module.describe())(super::memory::memory())
}

/// What the C library and the kernel still have of a library, and its threads as far as `threads`
/// has room.
///
/// # Safety
/// No code of the library runs any more but on threads that it started itself: its instance is
/// dropped, and the threads that polled it have ended. From here on it is only closed.
pub unsafe fn before_close(module: ModuleRef, threads: &mut [StartedThread]) -> Remains {
    (module.before_close())(RSliceMut::from_mut_slice(threads))
}

/// Makes known whom a library asks when its code installs a signal handler.
pub fn bind_signals(module: ModuleRef, host: &'static SignalHost) {
    (module.bind_signals())(host);
}

/// Has a library ask for the level of the log anew. One that was built before there was this goes
/// on with the level that it began with. To be called where plugin code may run, while the library
/// is open.
pub fn log_level_changed(module: ModuleRef) {
    if let Some(changed) = module.log_level_changed() {
        changed();
    }
}

/// Makes an instance. To be called, polled and dropped where plugin code may run.
///
/// # Safety
/// Whoever owns the instance
/// * drops every [`CallStart::Pending`] future of it before it, and the value of every reply before
///   its library is closed;
/// * drops it, and this future, before the library of `module` is closed;
/// * passes events to it alone that are those of the host that `host` was made of
///   ([`HostApi::Event`]).
///
/// [`HostApi::Event`]: super::HostApi::Event
pub unsafe fn create(
    module: ModuleRef,
    host: HostRef,
    config: &[u8],
) -> impl Future<Output = Result<Instance, CallEnd>> + Send + use<> {
    let created = (module.create())(super::memory::memory(), host, RSlice::from_slice(config));
    async move {
        match created.await {
            Ok(CreateEnd::Created(pointer)) => Ok(Instance { module, pointer }),
            Ok(CreateEnd::Failed(failure)) => Err(CallEnd::Failed(failure)),
            Err(message) => Err(CallEnd::Panicked(message)),
        }
    }
}

/// A live instance of a plugin. Dropping it runs plugin code.
///
/// Its owner keeps the promises of [`create`], which the types cannot hold, and drops it and what
/// comes of it where plugin code may run.
pub struct Instance {
    module: ModuleRef,
    pointer: InstancePointer,
}

impl Instance {
    /// Starts a call of handler number `handler` with its first poll. A reply comes in this form if
    /// the handler can give it; otherwise in any.
    #[inline(always)]
    pub fn call(
        &self,
        handler: u64,
        event: EventHandle,
        form: &ReplyForm,
        cx: &mut Context<'_>,
    ) -> CallStart {
        let lent = LentWaker::new(cx.waker());
        let base = unwrapped(cx.waker()).unwrap_or_else(|| lent.as_base());
        scratch::lend(|scratch| {
            // SAFETY: the pointer is that of a live instance; `lent` and `scratch` outlive the
            // call.
            unsafe { (self.module.call())(self.pointer.0, handler, event, base, scratch, form) }
        })
    }

    /// Starts to take a snapshot of this version, with its first poll. It ends with a reply, which
    /// is the snapshot, or else as a call does.
    pub fn snapshot(&self, version: u32, cx: &mut Context<'_>) -> CallStart {
        let lent = LentWaker::new(cx.waker());
        // SAFETY: the pointer is that of a live instance; `lent` outlives the call.
        unsafe { (self.module.snapshot())(self.pointer.0, version, lent.as_base()) }
    }

    /// Starts to restore a snapshot of this version, with its first poll. It ends without a reply
    /// when all is well. `state` is decoded before this returns, and not kept.
    pub fn restore(&self, version: u32, state: &[u8], cx: &mut Context<'_>) -> CallStart {
        let (lent, state) = (LentWaker::new(cx.waker()), RSlice::from_slice(state));
        // SAFETY: the pointer is that of a live instance; `lent` and `state` outlive the call, and
        // what the call gives does not borrow from `state`.
        unsafe { (self.module.restore())(self.pointer.0, version, state, lent.as_base()) }
    }

    /// See [`log_level_changed`].
    pub fn log_level_changed(&self) {
        log_level_changed(self.module);
    }

    /// Reads a snapshot of this version as [`restore`](Self::restore) does, and changes nothing. It
    /// ends without a reply when the library can read it.
    pub fn read_back(&self, version: u32, state: &[u8]) -> CallEnd {
        (self.module.read_back())(version, RSlice::from_slice(state))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the pointer is that of a live instance, which is not used again.
        unsafe { (self.module.destroy())(self.pointer.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The module of a build, with what this one calls and with these functions behind `read_back`.
    macro_rules! module_of_build {
        ($build:ident: { $($call:tt)* }, { $($behind:tt)* }) => {
            #[allow(dead_code, unreachable_pub)]
            mod $build {
                use super::*;

                #[repr(C)]
                #[derive(StableAbi)]
                #[sabi(kind(Prefix(prefix_ref = ModuleRef)))]
                #[sabi(missing_field(panic))]
                pub struct PluginModule {
                    describe: extern "C" fn(&'static Memory) -> CallEnd,
                    create: extern "C" fn(
                        &'static Memory,
                        HostRef,
                        RSlice<'_, u8>,
                    ) -> BoundaryFuture<CreateEnd>,
                    call: unsafe extern "C" fn($($call)*) -> CallStart,
                    destroy: unsafe extern "C" fn(*mut ()),
                    snapshot: unsafe extern "C" fn(*const (), u32, *const WakerBase) -> CallStart,
                    restore: unsafe extern "C" fn(
                        *const (),
                        u32,
                        RSlice<'_, u8>,
                        *const WakerBase,
                    ) -> CallStart,
                    read_back: extern "C" fn(u32, RSlice<'_, u8>) -> CallEnd,
                    $($behind)*
                }
            }
        };
    }
    module_of_build! {
        fewer: { *const (), u64, EventHandle, *const WakerBase, &mut Scratch, &ReplyForm }, {
            #[sabi(last_prefix_field)]
            before_close: extern "C" fn(RSliceMut<'_, StartedThread>) -> Remains,
        }
    }
    module_of_build! {
        different: { *const (), u64, EventHandle }, {
            before_close: extern "C" fn(RSliceMut<'_, StartedThread>) -> Remains,
            #[sabi(last_prefix_field)]
            bind_signals: extern "C" fn(&'static SignalHost),
        }
    }
    module_of_build! {
        more: { *const (), u64, EventHandle, *const WakerBase, &mut Scratch, &ReplyForm }, {
            before_close: extern "C" fn(RSliceMut<'_, StartedThread>) -> Remains,
            #[sabi(last_prefix_field)]
            bind_signals: extern "C" fn(&'static SignalHost),
            #[sabi(missing_field(option))]
            log_level_changed: extern "C" fn(),
            #[sabi(missing_field(option))]
            appended: extern "C" fn(&'static Memory) -> CallEnd,
        }
    }

    module_of_build! {
        first: { *const (), u64, EventHandle, *const WakerBase, &mut Scratch, &ReplyForm }, {
            before_close: extern "C" fn(RSliceMut<'_, StartedThread>) -> Remains,
            #[sabi(last_prefix_field)]
            bind_signals: extern "C" fn(&'static SignalHost),
        }
    }

    #[test]
    fn a_module_with_more_functions_is_good_and_one_with_fewer_or_others_is_not() {
        assert_eq!(check_layout(ModuleRef::LAYOUT), Ok(()));
        assert_eq!(check_layout(more::ModuleRef::LAYOUT), Ok(()));
        assert_eq!(check_layout(first::ModuleRef::LAYOUT), Ok(()), "the first of this number");
        assert!(check_layout(fewer::ModuleRef::LAYOUT).is_err());
        let differences = check_layout(different::ModuleRef::LAYOUT).expect_err("it differs");
        assert!(differences.contains("call"), "{differences}");
    }
}
