use std::net::TcpStream;

use tungstenite::{Error as WsError, Message, WebSocket, client};

use super::{client::connect, *};

struct Client<'a> {
    http: &'a Harness,
    socket: WebSocket<TcpStream>,
}

impl<'a> Client<'a> {
    fn connect(http: &'a Harness, address: SocketAddr) -> Self {
        let stream = connect(address);
        let (socket, answer) =
            http.meanwhile(|| client(format!("ws://{address}/ws"), stream).unwrap());
        assert_eq!(answer.headers()["connection"], "upgrade");
        Client { http, socket }
    }

    fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    #[track_caller]
    fn told(&mut self) -> Value {
        let socket = &mut self.socket;
        self.http.meanwhile(|| {
            loop {
                if let Message::Text(text) = socket.read().unwrap() {
                    return text.parse().unwrap();
                }
            }
        })
    }

    #[track_caller]
    fn asked(&mut self, message: Value) -> Value {
        self.say(message);
        self.told()
    }
}

/// With a shop that tells of what it sells.
fn shop(config: Value) -> (Harness, SocketAddr) {
    let (http, address) = start(config);
    http.other("shop").on("shop:sell", |ctx: Context, item: String| async move {
        let customer = ctx.event().and_then(|event| event.attribute("customer")).map(str::to_owned);
        match item.as_str() {
            "pen" => Ok(json!([item, customer])),
            _ => Err(Error::new("sold_out", "there are pens")),
        }
    });
    (http, address)
}

#[test]
fn events_are_emitted_and_each_is_answered_by_what_the_client_calls_it() {
    let (http, address) = shop(json!({"emit": ["shop:*"]}));
    let mut client = Client::connect(&http, address);
    let sell = |id: Value, item: &str| json!({"type": "emit", "id": id, "event": "shop:sell", "data": item, "attributes": {"customer": "17"}});
    let report = client.asked(sell(json!("a"), "pen"));
    assert_eq!((&report["type"], &report["id"]), (&json!("report"), &json!("a")));
    assert_eq!((&report["code"], &report["status"]), (&json!(200), &json!("ok")));
    assert_eq!(report["outcomes"][0]["reply"], json!(["pen", "17"]));
    let report = client.asked(sell(json!({"n": 2}), "cup"));
    assert_eq!((&report["id"], &report["code"]), (&json!({"n": 2}), &json!(422)));
    let sent =
        json!({"type": "emit", "id": 3, "event": "shop:sell", "data": "pen", "wait": "none"});
    assert_eq!(client.asked(sent), json!({"type": "sent", "id": 3}));
    let error = client.asked(json!({"type": "emit", "id": 4, "event": "till:open"}));
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(4), &json!("not_allowed")));
    for bad in
        [json!({"type": "sing"}), json!(7), json!({"type": "emit", "event": "a:b", "dta": 1})]
    {
        assert_eq!(client.asked(bad)["error"]["code"], "invalid_message");
    }
}

#[test]
fn events_are_seen_as_they_pass_until_they_are_not_looked_at_and_from_a_position_on() {
    let (http, address) = start(json!({}));
    let mut client = Client::connect(&http, address);
    let watching = client.asked(json!({"type": "watch", "id": 1, "patterns": ["shop:*"]}));
    assert_eq!(watching["type"], "watching");
    let known = client.asked(json!({"type": "watch", "id": 1, "patterns": ["till:*"]}));
    assert_eq!(known["error"]["code"], "known_id");
    client.asked(json!({"type": "watch", "id": 2, "patterns": ["till:*"]}));
    for number in 1..=2 {
        http.emit("shop:sold", number);
        let event = client.told();
        assert_eq!((&event["type"], &event["id"]), (&json!("event"), &json!(1)));
        assert_eq!(event["passed"]["event"], "shop:sold");
        assert_eq!(event["passed"]["data"], number);
    }
    http.emit("till:open", 3);
    assert_eq!(client.told()["id"], 2);
    assert_eq!(client.asked(json!({"type": "unwatch", "id": 1}))["type"], "unwatched");
    http.emit("shop:sold", 4);
    http.emit("till:open", 5);
    assert_eq!(client.told()["passed"]["data"], 5);
    let after = watching["position"].clone();
    let again = json!({"type": "watch", "id": 3, "patterns": ["shop:*"], "after": after});
    client.say(again);
    // The answer may stand behind the first event.
    let mut seen: Vec<Value> = (0..4).map(|_| client.told()["passed"]["data"].take()).collect();
    seen.retain(|data| !data.is_null());
    assert_eq!(seen, [1, 2, 4]);
    let lost = json!({"type": "watch", "id": 4, "patterns": ["shop:*"], "after": "1-1"});
    let told = [client.asked(lost), client.told()];
    assert!(told.iter().any(|it| it["type"] == "missed" && it["count"].is_null()), "{told:?}");
}

#[test]
fn a_client_is_told_to_come_back_when_the_plugin_goes() {
    let (http, address) = start(json!({}));
    let mut client = Client::connect(&http, address);
    client.asked(json!({"type": "watch", "id": 1, "patterns": ["shop:*"]}));
    let mut socket = client.socket;
    let waits = std::thread::spawn(move || {
        let told = socket.read().unwrap();
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("it is closed") };
        let end = socket.read().unwrap_err();
        (told.into_text().unwrap().to_string(), u16::from(close.code), end)
    });
    assert!(http.shutdown().is_ok());
    let (told, code, end) = waits.join().unwrap();
    assert_eq!((told.as_str(), code), (r#"{"type":"reconnect"}"#, 1012));
    assert!(matches!(end, WsError::ConnectionClosed), "{end}");
}

#[test]
fn a_client_that_reads_too_slowly_is_told_what_it_has_missed_and_dropped() {
    let (http, address) = start(json!({"resume_bytes": 1_000_000}));
    let mut client = Client::connect(&http, address);
    client.asked(json!({"type": "watch", "id": 1, "patterns": ["shop:*"]}));
    // More than the system takes for a client that does not read.
    let large = json!("x".repeat(100_000));
    for _ in 0..200 {
        http.emit("shop:sold", &large);
        http.take_emitted();
    }
    let told = (0..).map(|_| client.told()).find(|told| told["type"] == "missed").unwrap();
    assert!(told["count"].as_u64() > Some(0), "{told}");
    let closed = http.meanwhile(|| client.socket.read().unwrap());
    let Message::Close(Some(close)) = closed else { panic!("{closed}") };
    assert_eq!(u16::from(close.code), 1013);
}

#[test]
fn a_message_that_is_too_large_ends_the_connection() {
    let (http, address) = start(json!({"max_body_bytes": 1_000}));
    let mut client = Client::connect(&http, address);
    client.say(json!({"type": "emit", "event": "a:b", "data": "x".repeat(2_000)}));
    let end = http.meanwhile(|| client.socket.read());
    assert!(matches!(end, Err(_) | Ok(Message::Close(_))), "{end:?}");
}
