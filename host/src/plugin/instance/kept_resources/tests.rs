use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use super::*;

fn local_address(descriptor: OwnedFd) -> SocketAddr {
    TcpListener::from(descriptor).local_addr().unwrap()
}

#[test]
fn every_generation_gets_the_same_socket_until_the_plugin_is_unloaded() {
    let all = KeptResources::new(4);
    let first = all.of("web".into());
    first.is_live();
    let address = local_address(first.listener("127.0.0.1:0").unwrap());
    let second = all.of("web".into());
    drop(first);
    assert_eq!(local_address(second.listener("127.0.0.1:0").unwrap()), address);
    TcpStream::connect(address).expect("it listens while nobody has a duplicate");
    assert_eq!(all.names("web"), [("127.0.0.1:0".to_owned(), Some(address.to_string()))]);
    all.give_back("web");
    assert!(TcpStream::connect(address).is_err(), "it is closed");
    assert!(second.listener("127.0.0.1:0").unwrap_err().text().contains("unloaded"));
    assert!(all.of("web".into()).listener("127.0.0.1:0").is_ok(), "it is loaded again");
}

#[test]
fn what_only_a_generation_that_was_never_live_has_asked_for_goes_with_it() {
    let all = KeptResources::new(4);
    let live = all.of("web".into());
    let candidate = all.of("web".into());
    let added = local_address(candidate.listener("127.0.0.1:0").unwrap());
    let shared = local_address(candidate.listener("[::1]:0").unwrap());
    assert_eq!(local_address(live.listener("[::1]:0").unwrap()), shared);
    let (_far, near) = UnixStream::pair().unwrap();
    candidate.keep("port", near.into()).unwrap();
    drop(candidate);
    assert!(TcpStream::connect(added).is_err(), "nobody would accept there");
    assert!(live.kept("port").unwrap().is_none());
    TcpStream::connect(shared).expect("the live one has it too");
    let next = all.of("web".into());
    let added = local_address(next.listener("127.0.0.1:0").unwrap());
    next.is_live();
    drop(next);
    TcpStream::connect(added).expect("it was live");
}

#[test]
fn nothing_is_kept_when_nothing_of_the_plugin_is_there_any_more() {
    let all = KeptResources::new(4);
    let only = all.of("web".into());
    let address = local_address(only.listener("127.0.0.1:0").unwrap());
    drop(only);
    assert!(TcpStream::connect(address).is_err());
    assert!(all.lock().is_empty());
}

#[test]
fn any_descriptor_is_kept_by_name_and_replaced_by_the_next_of_that_name() {
    let all = KeptResources::new(1);
    let own = all.of("serial".into());
    assert!(own.kept("port").unwrap().is_none());
    let (mut far, near) = UnixStream::pair().unwrap();
    own.keep("port", near.into()).unwrap();
    let mut kept = UnixStream::from(own.kept("port").unwrap().expect("it is kept"));
    kept.write_all(b"x").unwrap();
    far.read_exact(&mut [0]).unwrap();
    let (other, _) = UnixStream::pair().unwrap();
    own.keep("port", other.try_clone().unwrap().into()).expect("it takes no more room");
    assert!(own.keep("second", other.into()).unwrap_err().text().contains("limits.kept_resources"));
    assert!(own.stop_keeping("port") && !own.stop_keeping("port"));
}

#[test]
fn names_and_addresses_that_are_none_are_refused_with_an_example() {
    let all = KeptResources::new(9);
    let own = all.of("a".into());
    for bad in ["", "a b", "a:b", "ä", &"x".repeat(LONGEST_NAME + 1)] {
        let (one, _) = UnixStream::pair().unwrap();
        assert!(own.keep(bad, one.into()).unwrap_err().text().contains("no colon"), "{bad}");
    }
    for bad in ["", "8080", "localhost:8080", "unix:web.sock"] {
        assert!(own.listener(bad).unwrap_err().text().contains("write \""), "{bad}");
    }
}

#[test]
fn a_unix_socket_that_is_stale_is_bound_again_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let address = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    let all = KeptResources::new(9);
    let own = all.of("a".into());
    let _listener = own.listener(&address).expect("nobody listens there");
    UnixStream::connect(&path).unwrap();
    let other = all.of("b".into());
    assert!(other.listener(&address).unwrap_err().text().contains("cannot be listened at"));
    all.give_back("a");
    assert!(!path.exists(), "its file goes with it");
    fs::write(&path, "a file").unwrap();
    let refused = other.listener(&address).unwrap_err().text();
    assert!(refused.contains("there is a file, and no socket"), "{refused}");
    let folder = format!("unix:{}", folder.path().display());
    let refused = other.listener(&folder).unwrap_err().text();
    assert!(refused.contains("there is a folder, and no socket"), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
}
