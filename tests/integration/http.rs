//! The plugin `http` in a real host.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use serde_json::{Value, json};

use crate::{
    contracts,
    kit::{Ends, HostBuilder, HttpClient, Library, PATIENCE, TestHost, workspace},
};

const FILE: &str = "libksi_http.so";

fn http() -> Library {
    Library::of("ksi-plugin-http")
}

/// At a free port.
fn host() -> HostBuilder {
    TestHost::builder().plugin(FILE, &http()).config("[plugin.http]\naddress = '127.0.0.1:0'")
}

fn address(host: &TestHost) -> SocketAddr {
    let address = host.client().emit("http:address", json!({}));
    address.as_str().unwrap().parse().unwrap()
}

/// Asks until `done`. Every answer must be the one to its own request, and none may fail.
fn ask_until(address: SocketAddr, keeps: bool, done: &AtomicBool) -> usize {
    let (mut http, mut requests) = (HttpClient::new(address, keeps), 0);
    while !done.load(SeqCst) {
        let name = format!("{keeps} {requests}");
        let answer = http.post("/events/greet:request", &json!({"name": name}));
        let answer = answer.unwrap_or_else(|error| panic!("request {name}: {error}"));
        let greeting = format!("Hello, {name}!");
        let reply = &answer.body["outcomes"][0]["reply"]["text"];
        assert_eq!((answer.status, reply), (200, &json!(greeting)), "{answer:?}");
        requests += 1;
    }
    requests
}

#[test]
fn no_client_of_the_http_plugin_notices_that_it_is_replaced_and_unloading_it_closes_the_socket() {
    let replacements = 6;
    let host = host().plugin("libhello.so", &Library::of("hello")).start();
    let (address, done) = (address(&host), AtomicBool::new(false));
    let requests: usize = thread::scope(|scope| {
        let (ends, done) = (Ends(&done), &done);
        let clients =
            [false, true].map(|keeps| scope.spawn(move || ask_until(address, keeps, done)));
        for version in (2..).take(replacements) {
            host.drop_in(FILE, &http().of_version(version));
            host.until_version("http", &format!("0.0.{version}"));
        }
        drop(ends);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let module = host.until_unmapped("http");
    assert_eq!(module["reloads"], replacements);
    let greeted = host.module("hello")["counts"].take();
    assert_eq!((&greeted["accepted"], &greeted["replied"]), (&json!(requests), &json!(requests)));
    assert!(requests > replacements, "there was load");
    host.client().emit("module:unload", json!({"module_name": "http"}));
    host.until_unmapped("http");
    let mut http = HttpClient::new(address, false);
    assert!(http.post("/events/greet:request", &json!({"name": "Ada"})).is_err(), "it is closed");
}

#[test]
fn an_address_that_other_machines_reach_is_refused_without_a_token() {
    let open = "[plugin.http]\naddress = '0.0.0.0:0'";
    let host = TestHost::builder().plugin(FILE, &http()).config(open).start();
    let refused = host.until_refused(FILE);
    assert!(refused.contains("token_file"), "{refused}");
}

/// Looks at some events, from behind a position, and reads until there is such a line.
fn look(address: SocketAddr, position: &str, line: &str) -> (BufReader<TcpStream>, Vec<String>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "GET /events?pattern=shop:* HTTP/1.1\r\nhost: localhost\r\nlast-event-id: {position}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let lines = read_until(&mut stream, line);
    (stream, lines)
}

fn read_until(stream: &mut impl BufRead, end: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in stream.lines() {
        lines.push(line.unwrap());
        if lines.last().is_some_and(|line| line.contains(end)) {
            return lines;
        }
    }
    panic!("it is closed behind {lines:?}");
}

#[test]
fn a_client_that_looks_on_misses_no_event_over_a_replacement_of_the_plugin() {
    let host = host().start();
    let (address, mut client) = (address(&host), host.client());
    let (mut stream, _) = look(address, "", "id: ");
    let mut emit = |number: usize| client.reply("shop:sold", json!({"number": number}));
    emit(1);
    read_until(&mut stream, r#""data":{"number":1}"#);
    let position = read_until(&mut stream, "id: ").pop().unwrap();
    host.drop_in(FILE, &http().of_version(2));
    read_until(&mut stream, "event: reconnect");
    // Nobody looks.
    emit(2);
    let (_, lines) = look(address, position.trim_start_matches("id: "), r#"{"number":2}"#);
    assert!(!lines.iter().any(|line| line.contains("missed")), "{lines:?}");
}

/// Says that a test was left out because something is missing that `.ci/run` installs; where that
/// is required, as the variable says, it is a failure.
fn left_out(variable: &str, missing: &str) {
    assert!(std::env::var_os(variable).is_none_or(|it| it != "required"), "{missing}");
    // Past the capture of the test's output.
    let _ = writeln!(std::io::stderr().lock(), "a test was left out: {missing}");
}

/// Prometheus' own tool: where `.ci/run` has put it, or wherever it is installed.
fn promtool() -> Option<PathBuf> {
    let places = [workspace().join("target/prometheus/usr/bin/promtool"), "promtool".into()];
    let runs = |path: &PathBuf| {
        let mut promtool = Command::new(path);
        let ran = promtool.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success())
    };
    let found = places.into_iter().find(runs);
    if found.is_none() {
        left_out("KSI_TEST_PROMTOOL", "there is no promtool: it is in Debian's package prometheus");
    }
    found
}

/// What `promtool check metrics` says, and whether it has nothing against the text.
fn checked(promtool: &PathBuf, metrics: &str) -> (bool, String) {
    let mut command = Command::new(promtool);
    let command = command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn promtool_has_nothing_against_the_metrics_and_they_are_what_the_host_counts() {
    let host = host().plugin("libhello.so", &Library::of("hello")).start();
    let mut http = HttpClient::new(address(&host), true);
    for body in [json!({"name": "Ada"}), json!({"name": "Bob"}), json!({"nme": "Eve"})] {
        http.post("/events/greet:request", &body).unwrap();
    }
    let (status, metrics) = http.get("/metrics").unwrap();
    assert_eq!(status, 200, "{metrics}");
    for line in [
        r#"ksi_calls_total{handler="greet",outcome="replied",plugin="hello"} 2"#,
        r#"ksi_calls_total{handler="greet",outcome="failed",plugin="hello"} 1"#,
        r#"ksi_plugin_generation{plugin="http"} 1"#,
        r#"ksi_status{status="healthy"} 1"#,
        "ksi_plugins 2",
        "# TYPE ksi_calls_total counter",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} is missing:\n{metrics}");
    }
    let Some(promtool) = promtool() else { return };
    assert_eq!(checked(&promtool, &metrics), (true, String::new()));
    let renamed = metrics.replace("ksi_calls_total", "ksi_calls");
    let (is_well, said) = checked(&promtool, &renamed);
    assert!(!is_well && said.contains("_total"), "the check sees what is wrong: {said}");
}

/// Prints what is wrong with a document, and nothing else.
const VALIDATED: &str = r"
const parser = require('@apidevtools/swagger-parser');
const document = JSON.parse(require('fs').readFileSync(0, 'utf8'));
parser.validate(document).then(() => {}, (error) => console.log(error.message));
";

/// What a validator of OpenAPI finds wrong. Where there is none, nothing.
fn validated(document: &Value) -> Option<String> {
    let modules = workspace().join("target/openapi/node_modules");
    if !modules.join("@apidevtools/swagger-parser").is_dir() {
        left_out(
            "KSI_TEST_OPENAPI",
            "there is no validator of OpenAPI: npm install --prefix target/openapi --ignore-scripts \
             @apidevtools/swagger-parser@12",
        );
        return None;
    }
    let mut node = Command::new("node");
    let node = node.args(["-e", VALIDATED]).env("NODE_PATH", modules);
    let mut process = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_validator_of_openapi_has_nothing_against_the_document_of_the_live_plugins_events() {
    let host = contracts::plugins(host()).start();
    let mut http = HttpClient::new(address(&host), true);
    let (status, text) = http.get("/openapi.json").unwrap();
    assert_eq!(status, 200, "{text}");
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let buy = &document["paths"]["/events/shop:buy"]["post"];
    assert_eq!(buy["operationId"], "shop:buy");
    let schema = &buy["requestBody"]["content"]["application/json"]["schema"];
    let place = schema["$ref"].as_str().and_then(|it| it.strip_prefix('#')).unwrap();
    let number = &document.pointer(place).unwrap()["properties"]["number"];
    assert_eq!(number["type"], "integer", "{document:#}");
    assert!(document["paths"]["/events/order:placed"].is_object(), "{document:#}");
    let Some(found) = validated(&document) else { return };
    assert_eq!(found, "");
    document["paths"]["/events/shop:buy"]["post"]["requestBody"]["content"] = json!(7);
    assert_ne!(validated(&document).unwrap(), "", "the check sees what is wrong");
}
