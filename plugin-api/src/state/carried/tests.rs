use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::*;
use crate::payload::decode;

#[track_caller]
fn refused<T: Serialize>(state: &T, words: &[&str]) {
    let error = encode(state).expect_err("it would not come back as it is");
    assert_eq!(error.code(), "encode");
    for words in words {
        assert!(error.message().contains(words), "{words}: {error}");
    }
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(state: T) {
    let snapshot = encode(&state).unwrap_or_else(|error| panic!("{state:?}: {error}"));
    assert_eq!(decode::<T>(&snapshot).unwrap(), state);
    assert_eq!(snapshot.as_text(), Some(&*serde_json::to_string(&state).unwrap()));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sensors {
    sensors: Vec<Sensor>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sensor {
    mean: f64,
    last: Option<f32>,
}

#[test]
fn a_number_that_json_lacks_is_refused_with_its_path() {
    let with = |mean, last| Sensors {
        sensors: vec![Sensor { mean: 0.5, last: None }, Sensor { mean, last: Some(last) }],
    };
    comes_back(with(-0.0, f32::MIN_POSITIVE));
    refused(&with(f64::NAN, 1.0), &["at \"sensors[1].mean\"", "NaN"]);
    refused(&with(f64::NEG_INFINITY, 1.0), &["sensors[1].mean", "-inf"]);
    refused(&with(1.0, f32::NAN), &["at \"sensors[1].last\"", "NaN"]);
    refused(&BTreeMap::from([("a", [1.0, f64::INFINITY])]), &["at \"a[1]\"", "inf"]);
    refused(&f64::NAN, &["the state cannot be carried"]);
}

#[test]
fn some_of_nothing_is_refused_with_its_path() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Wrapped(Option<u8>);
    comes_back((Some(Some(1)), None::<Option<u8>>));
    comes_back(vec![Some(vec![None::<u8>])]);
    refused(&BTreeMap::from([("a", Some(None::<u8>))]), &["at \"a\"", "`Some`", "`None`"]);
    refused(&(Some(Unit), 1), &["at \"[0]\"", "null"]);
    refused(&Some(Wrapped(None)), &["null"]);
    refused(&[Some(Some(()))], &["at \"[0]\""]);
    refused(&Some(Value::Null), &["null"]);
    comes_back(Value::Null);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Chain>),
    Pair(u8, Box<Chain>),
    Field { next: Box<Chain> },
}

#[test]
fn as_deep_as_is_read_is_carried_and_nothing_deeper() {
    let lists = |depth: usize| (1..depth).fold(json!([]), |inner, _| json!([inner]));
    let maps = |depth: usize| (1..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
    let links = |count: usize| (0..count).fold(Chain::End, |end, _| Chain::Link(Box::new(end)));
    let pairs = |count: usize| (0..count).fold(Chain::End, |end, _| Chain::Pair(1, Box::new(end)));
    let fields =
        |count: usize| (0..count).fold(Chain::End, |end, _| Chain::Field { next: Box::new(end) });
    comes_back(lists(127));
    comes_back(maps(127));
    comes_back(links(127));
    comes_back(pairs(63));
    comes_back(fields(63));
    refused(&lists(128), &["[0][0]", "127"]);
    refused(&maps(128), &["a.a.a", "[...]", "127"]);
    refused(&links(128), &["127"]);
    refused(&pairs(64), &["127"]);
    refused(&fields(64), &["127"]);
    refused(&links(20_000), &["127"]);
    assert!(encode(&maps(128)).unwrap_err().message().len() < 600);
    // What the limit is taken from: serde_json itself.
    let text = serde_json::to_string(&lists(128)).unwrap();
    assert!(decode::<Value>(text.as_bytes()).is_err());
}

#[test]
fn two_equal_keys_are_refused_and_other_keys_come_back() {
    #[derive(Serialize)]
    struct Named {
        id: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let named = |key: &str| Named { id: 1, rest: BTreeMap::from([(key.to_owned(), 2)]) };
    assert!(encode(&named("other")).is_ok());
    refused(&named("id"), &["the key \"id\" is there twice"]);

    #[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
    struct Shown(#[serde(serialize_with = "lower")] &'static str);
    fn lower<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&text.to_lowercase())
    }
    refused(
        &json!(1).as_u64().map(|_| BTreeMap::from([(Shown("A"), 1), (Shown("a"), 2)])),
        &["\"a\""],
    );

    comes_back(HashMap::from([(1_u64, 'a'), (u64::MAX, 'b')]));
    comes_back(BTreeMap::from([(i128::MIN, true), (-1, false)]));
    comes_back(BTreeMap::from([(true, 1), (false, 2)]));
    comes_back(BTreeMap::from([('a', 1), ('"', 2)]));
    comes_back(BTreeMap::from([("1".to_owned(), BTreeMap::from([("1".to_owned(), 2)]))]));
    refused(&vec![BTreeMap::from([((1, 2), 3)])], &["at \"[0]\"", "key must be a string"]);
    let many: BTreeMap<u32, u32> = (0..100_000).map(|number| (number, number)).collect();
    comes_back(many);
}

#[test]
fn what_else_there_is_comes_back_as_it_went() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing;
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Id(u128);
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { at: SystemTime },
        Two(BTreeMap<String, f64>),
    }
    comes_back((u128::MAX, i128::MIN, u64::MAX, i64::MIN));
    comes_back((f64::MAX, 5e-324, 0.904_216_945_489_337_1, f32::MAX, -0.0_f64));
    comes_back((Nothing, (), Id(7), 'ä', "\u{0}\u{1F600}\\\"".to_owned()));
    comes_back((PathBuf::from("/a"), Duration::from_nanos(1), vec![0_u8, 255]));
    comes_back([
        Tagged::One { at: SystemTime::UNIX_EPOCH },
        Tagged::Two(BTreeMap::from([("a".to_owned(), 1.5)])),
    ]);
    let raw = serde_json::value::RawValue::from_string("{\"a\": [1]}".to_owned()).unwrap();
    assert_eq!(encode(&[raw]).unwrap().as_text(), Some("[{\"a\": [1]}]"));
    assert!((-0.0_f64).is_sign_negative());
    let zero: f64 = decode(&encode(&-0.0_f64).unwrap()).unwrap();
    assert!(zero.is_sign_negative());
}

#[test]
fn what_fails_by_itself_has_its_path_too() {
    use std::os::unix::ffi::OsStringExt;
    let path = PathBuf::from(std::ffi::OsString::from_vec(vec![0xff]));
    refused(&BTreeMap::from([("paths", [path])]), &["at \"paths[0]\"", "UTF-8"]);
}

/// `cargo test --release -p ksi-plugin-api --lib figures -- --ignored --nocapture`
#[test]
#[ignore = "prints figures of the machine it runs on"]
fn figures() {
    use std::time::Instant;
    let entries = 50_000_u32;
    let state: BTreeMap<String, (f64, Vec<u64>, Option<String>)> = (0..entries)
        .map(|number| {
            let name = format!("sensor number {number}");
            (name.clone(), (f64::from(number) / 7.0, vec![u64::from(number); 8], Some(name)))
        })
        .collect();
    let best = |mut work: Box<dyn FnMut()>| {
        let once = |work: &mut Box<dyn FnMut()>| {
            let start = Instant::now();
            work();
            start.elapsed()
        };
        (0..15).map(|_| once(&mut work)).min().unwrap()
    };
    let snapshot = encode(&state).unwrap();
    let (plain, strict, copy) = (state.clone(), state.clone(), snapshot[..].to_vec());
    let plain = best(Box::new(move || drop(json::encode(&plain).unwrap())));
    let strict = best(Box::new(move || drop(encode(&strict).unwrap())));
    let read = best(Box::new(move || {
        drop(decode::<BTreeMap<String, (f64, Vec<u64>, Option<String>)>>(&copy).unwrap());
    }));
    println!(
        "{} bytes: encoded as an event {plain:?}, as a snapshot {strict:?}, read back {read:?}",
        snapshot.len()
    );
}
