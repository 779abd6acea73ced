//! The numbers of frames, and what the head of one says.

/// Bytes of a frame's head: u32 length of the body, u8 kind, u8 flags, u16 descriptors, u64 id.
pub const HEAD: usize = 16;

/// Bytes that the body of a frame may have, unless both sides agree on something else.
pub const FRAME_LIMIT: u32 = 16 << 20;

/// The payload is not in the body but in a memory file that comes along; its length, a u64, stands
/// in its place.
pub(crate) const PAYLOAD_IN_FILE: u8 = 1;
/// The context of a call is kept beyond its end, until it is released.
pub(crate) const KEEPS: u8 = 2;
/// The handler is called on a thread that it may block.
pub(crate) const BLOCKING: u8 = 4;

/// Who sends frames of a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Host,
    Worker,
    Both,
}

macro_rules! kinds {
    ($($(#[$text:meta])* $kind:ident = $number:literal, $name:literal, $sender:ident;)*) => {
        /// What a frame is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$text])* $kind = $number,)*
        }

        impl Kind {
            /// All of them, by their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// The one of this number.
            #[inline]
            pub fn of(number: u8) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$kind),)*
                    _ => None,
                }
            }

            /// Its name, as the table of frames has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            pub(crate) fn sender(self) -> Sender {
                match self {
                    $(Kind::$kind => Sender::$sender,)*
                }
            }
        }
    };
}

kinds! {
    /// The worker is there, and what it speaks.
    Hello = 1, "HELLO", Worker;
    /// Which file to open, and within which limits.
    Open = 2, "OPEN", Host;
    /// It is open, and what it says of itself.
    Opened = 3, "OPENED", Worker;
    /// Make an instance.
    Create = 4, "CREATE", Host;
    /// It is made.
    Created = 5, "CREATED", Worker;
    /// Tasks end, and nothing more is subscribed: the instance goes soon.
    Detach = 6, "DETACH", Host;
    /// Drop the instance and end.
    Shutdown = 7, "SHUTDOWN", Host;
    /// The instance is dropped, and the process ends.
    Bye = 8, "BYE", Worker;
    /// The instance takes its place: events come to it from here on.
    Live = 9, "LIVE", Host;

    /// Call a handler.
    Call = 16, "CALL", Host;
    /// It ended with a reply.
    Reply = 17, "REPLY", Worker;
    /// It ended well.
    NoReply = 18, "NO_REPLY", Worker;
    /// It ended with an error.
    Failed = 19, "FAILED", Worker;
    /// It panicked.
    Panicked = 20, "PANICKED", Worker;
    /// The context of a call that is over is kept no longer.
    Release = 21, "RELEASE", Worker;
    /// Whoever asked does not wait any more.
    Cancel = 22, "CANCEL", Both;

    /// Emit an event.
    Emit = 32, "EMIT", Worker;
    /// What became of it.
    Report = 33, "REPORT", Host;
    /// What was asked for is refused.
    Refused = 34, "REFUSED", Host;
    /// Call a handler for each event that matches.
    Subscribe = 35, "SUBSCRIBE", Worker;
    /// Do so no longer.
    Unsubscribe = 36, "UNSUBSCRIBE", Worker;
    /// Wait for an event.
    Wait = 37, "WAIT", Worker;
    /// How that ended.
    Waited = 38, "WAITED", Host;
    /// Show events that pass.
    Watch = 39, "WATCH", Worker;
    /// One that has passed, or the end.
    Watched = 40, "WATCHED", Host;
    /// Show no more.
    Unwatch = 41, "UNWATCH", Worker;
    /// A line of the log.
    Log = 42, "LOG", Worker;
    /// A span is opened.
    Span = 43, "SPAN", Worker;
    /// It is closed.
    SpanEnd = 44, "SPAN_END", Worker;
    /// The most detailed level that anybody listens to.
    Level = 45, "LEVEL", Host;

    /// Give the socket that listens at an address.
    Listen = 48, "LISTEN", Worker;
    /// Keep a descriptor.
    Keep = 49, "KEEP", Worker;
    /// Give one that is kept.
    Kept = 50, "KEPT", Worker;
    /// Keep one no longer.
    StopKeeping = 51, "STOP_KEEPING", Worker;
    /// The descriptor that was asked for.
    Descriptor = 52, "DESCRIPTOR", Host;
    /// It is done.
    Done = 53, "DONE", Host;
    /// There is nothing of that name.
    Nothing = 54, "NOTHING", Host;

    /// Take a snapshot.
    Snapshot = 64, "SNAPSHOT", Host;
    /// Restore one.
    Restore = 65, "RESTORE", Host;
    /// Read one, and change nothing.
    ReadBack = 66, "READ_BACK", Host;

    /// Is the process there?
    Ping = 80, "PING", Host;
    /// It is.
    Pong = 81, "PONG", Worker;
    /// What it takes.
    Stats = 82, "STATS", Worker;
}
