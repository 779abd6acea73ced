//! What a host and a plugin in a process of its own say to one another, over a pair of connected
//! sockets: frames of a fixed head and a body, whose payload is the JSON that the host has anyway.
//!
//! - [`FromHost`] and [`FromWorker`] are all frames, by who sends them. Reading one borrows from
//!   the bytes that were read, and writing one copies them once.
//! - [`Batch`] is frames that go out together, [`Inbox`] is where bytes come in and whole frames
//!   are taken off.
//! - [`transport`] moves both over a socket, with the descriptors that come along.
//! - [`life`] has the bodies of the rare frames, which are JSON.
//!
//! The table of all frames, for whoever speaks this in another language, is
//! `docs/worker-protocol.md`.
//!
//! ```
//! use ksi_worker_protocol::{Batch, FromWorker, Inbox, Payload, transport};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (host, worker) = transport::pair()?;
//! let mut replies = Batch::new();
//! let reply = Payload::Bytes(b"{\"n\":1}");
//! FromWorker::Reply { keeps: false, reply }.put(7, &mut replies)?;
//! transport::send(&worker, &mut replies)?;
//!
//! let mut inbox = Inbox::new();
//! transport::receive(&host, &mut inbox)?;
//! let frame = inbox.next()?.expect("it is all there");
//! assert_eq!(frame.id, 7);
//! let FromWorker::Reply { reply, .. } = FromWorker::read(frame)? else { unreachable!() };
//! assert_eq!(&*reply.into_bytes(1024)?, b"{\"n\":1}");
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! Whatever bytes and descriptors come in, reading gives frames or a [`ProtocolError`] whose text
//! says what was found. No memory is reserved for what a length only announces, and none beyond
//! the limit of a frame. Descriptors that belong to no frame are closed.
//!
//! Knows no host, no plugin, no router and no async runtime.

mod batch;
mod error;
mod event;
mod fields;
mod from_host;
mod from_worker;
mod inbox;
mod kind;
pub mod life;
mod memory_file;
mod payload;
mod report;
mod texts;
pub mod transport;
mod version;

pub use batch::Batch;
pub use error::ProtocolError;
pub use event::{Call, Event, ReplyForm};
pub use from_host::{FromHost, Restore, Watched};
pub use from_worker::{Emit, EmitHow, FromWorker, Log, Span, Subscribe, Watch};
pub use inbox::{Frame, Inbox};
pub use kind::{FRAME_LIMIT, HEAD, Kind};
pub use memory_file::{IN_FILE_FROM, MemoryFile};
pub use payload::Payload;
pub use report::{Outcome, OutcomeKind, Outcomes, OutcomesBuf};
pub use texts::{Attributes, AttributesBuf, Texts, TextsBuf};
pub use version::{VERSION, Version};
