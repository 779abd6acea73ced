//! What is kept for a plugin over its generations.

use std::{io::Read, net::TcpStream, os::unix::net::UnixStream};

use ksi_plugin_api::{Context, Result, Value, json};

use crate::Harness;

struct Web {
    listener: std::net::TcpListener,
    line: Option<std::os::fd::OwnedFd>,
}

#[ksi_plugin_api::plugin(name = "web", version = "1")]
impl Web {
    #[ksi_plugin_api::initialize]
    async fn initialize(ctx: &Context, _: Value) -> Result<Self> {
        let (listener, line) = (ctx.listener("127.0.0.1:0")?, ctx.kept("line")?);
        if line.is_none() {
            ctx.keep("line", UnixStream::pair()?.0)?;
        }
        Ok(Web { listener, line })
    }

    #[ksi_plugin_api::event_handler("web:had")]
    async fn had(&self, _: &Context, _: Value) -> Result<(u16, bool)> {
        Ok((self.listener.local_addr()?.port(), self.line.is_some()))
    }
}

fn had(web: &Harness) -> (u16, bool) {
    let had = web.emit("web:had", ()).results().remove(0);
    serde_json::from_value(had).unwrap()
}

#[test]
fn what_one_generation_keeps_the_next_one_gets() {
    let first = Harness::start::<Web>();
    let (port, line) = had(&first);
    assert!(!line);
    let listener = first.kept("127.0.0.1:0").expect("it is kept");
    let line = first.kept("line").expect("it is kept");
    drop(first);
    let next = Harness::setup::<Web>().kept("127.0.0.1:0", listener).kept("line", line);
    let next = next.start().unwrap();
    assert_eq!(had(&next), (port, true));
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn who_is_tried_out_gets_another_socket_and_keeps_nothing() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let trial = Harness::setup::<Web>().trial().kept("127.0.0.1:0", listener);
    let trial = trial.kept("line", near).start().unwrap();
    let (other, line) = had(&trial);
    assert!(other != port && !line, "{}", json!([other, line]));
    drop(trial);
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "what it was given is closed");
}

#[derive(Default)]
struct Keeps;

#[ksi_plugin_api::plugin(name = "keeps")]
impl Keeps {
    /// Keeps something by each of these names; why the first of them was refused.
    #[ksi_plugin_api::event_handler("keeps:keep")]
    async fn keep(&self, ctx: &Context, names: Vec<String>) -> Result<String> {
        let (near, _) = UnixStream::pair()?;
        let refused = names.iter().find_map(|name| ctx.keep(name, &near).err());
        Ok(format!("{:?}", refused.and_then(|error| error.refusal())))
    }

    #[ksi_plugin_api::event_handler("keeps:listen")]
    async fn listen(&self, ctx: &Context, path: String) -> Result<String> {
        let refused = ctx.unix_listener(path).err();
        Ok(format!("{:?}", refused.and_then(|error| error.refusal())))
    }

    #[ksi_plugin_api::event_handler("keeps:stop")]
    async fn stop(&self, ctx: &Context, name: String) -> Result<bool> {
        Ok(ctx.stop_keeping(&name))
    }
}

#[test]
fn what_a_host_does_not_keep_is_refused() {
    let plugin = Harness::start::<Keeps>();
    let keep = |names: &[String]| plugin.emit("keeps:keep", names).results().remove(0);
    for name in ["", "a:b", "two words", &"x".repeat(256)] {
        assert_eq!(keep(&[name.to_owned()]), "Some(InvalidResourceName)", "{name:?}");
    }
    let names: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    assert_eq!(keep(&names[..64]), "None");
    assert_eq!(keep(&names), "Some(TooManyResources)");
    assert_eq!(plugin.emit("keeps:stop", "7").results(), [json!(true)]);
    assert_eq!(plugin.emit("keeps:stop", "7").results(), [json!(false)]);
    assert_eq!(keep(&names[64..]), "None");
}

#[test]
fn what_is_not_kept_is_not_bound_either() {
    let folder = folder("full");
    let path = folder.path().join("web").to_str().unwrap().to_owned();
    let plugin = Harness::start::<Keeps>();
    let names: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    assert_eq!(plugin.emit("keeps:keep", &names).results(), [json!("None")]);
    let refused = plugin.emit("keeps:listen", &path).results().remove(0);
    assert_eq!(refused, "Some(TooManyResources)");
    assert!(std::fs::read_dir(&folder).unwrap().next().is_none());
}

#[test]
fn the_file_of_a_socket_goes_when_that_is_kept_no_more() {
    let folder = folder("files");
    let path = folder.path().join("web").to_str().unwrap().to_owned();
    let plugin = Harness::start::<Keeps>();
    let listen = || assert_eq!(plugin.emit("keeps:listen", &path).results(), [json!("None")]);
    listen();
    plugin.replace::<Keeps>().unwrap();
    UnixStream::connect(&path).unwrap();
    assert!(plugin.emit("keeps:stop", format!("unix:{path}")).is_ok());
    assert!(!std::fs::exists(&path).unwrap(), "it is kept no more");
    listen();
    plugin.shutdown();
    assert!(!std::fs::exists(&path).unwrap(), "the plugin is gone");
    assert!(plugin.kept(&format!("unix:{path}")).is_none());
}

#[test]
fn somebody_who_listens_and_does_not_accept_holds_nobody_up() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let folder = folder("busy");
    let path = folder.path().join("busy");
    let socket = || {
        let (flags, kind) = (SocketFlags::NONBLOCK, SocketType::STREAM);
        rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap()
    };
    let (busy, address) = (socket(), SocketAddrUnix::new(&path).unwrap());
    rustix::net::bind(&busy, &address).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    while rustix::net::connect(socket(), &address).is_ok() {}
    let (told, tells) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let plugin = Harness::start::<Keeps>();
        let _ = told.send(plugin.emit("keeps:listen", path.to_str()).results());
    });
    let told = tells.recv_timeout(std::time::Duration::from_secs(10));
    assert_eq!(told.expect("nobody is waited for"), [json!("Some(AddressUnavailable)")]);
}

/// A folder of one test's own.
fn folder(test: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(test).tempdir().unwrap()
}

#[test]
fn a_unix_socket_that_nobody_listens_at_any_more_makes_room() {
    let folder = folder("kept");
    let listen = |plugin: &Harness, name: &str| {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        plugin.emit("keeps:listen", path).results().remove(0)
    };
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("stale")).unwrap());
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (first, second) = (Harness::start::<Keeps>(), Harness::start::<Keeps>());
    assert_eq!(listen(&first, "stale"), "None");
    assert_eq!(listen(&first, "stale"), "None", "it is the same one");
    assert_eq!(listen(&second, "stale"), "Some(AddressUnavailable)", "the first one listens");
    assert_eq!(listen(&second, "file"), "Some(AddressUnavailable)");
    let relative = second.emit("keeps:listen", "no/place").results().remove(0);
    assert_eq!(relative, "Some(InvalidAddress)");
    let trial = Harness::setup::<Keeps>().trial().start().unwrap();
    assert_eq!(listen(&trial, "stale"), "None", "it gets another one");
}
