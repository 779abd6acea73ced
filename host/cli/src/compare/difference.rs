//! Where two accounts of one event differ, by path.

use serde_json::{Number, Value};

/// What became of an event in one plugin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Account {
    /// One for each of its handlers, in the router's order.
    pub(super) ended: Vec<Ended>,
    /// What it emitted meanwhile and because of it, in order.
    pub(super) emits: Vec<(String, Value)>,
    /// There were more, or larger ones, than are kept.
    pub(super) cut: bool,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    Replied(Value),
    NoReply,
    Badly { code: String, message: String },
}

/// One place where they differ. What is not there at all is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// Paths that do not count. In each, `*` is one segment and `**` any number.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignored(Vec<Vec<String>>);

impl Ignored {
    pub(super) fn new(patterns: &[String]) -> Self {
        Ignored(patterns.iter().map(|it| it.split('/').map(str::to_owned).collect()).collect())
    }

    fn covers(&self, path: &[String]) -> bool {
        self.0.iter().any(|pattern| fits(pattern, path))
    }
}

/// A path below an ignored one is ignored, too.
fn fits(pattern: &[String], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, _) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=path.len()).any(|skipped| fits(rest, &path[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((segment, further))) => {
            (first == "*" || first == segment) && fits(rest, further)
        }
    }
}

/// How many places of one event are looked for.
const MOST: usize = 50;

/// All places where two accounts differ, up to a number.
pub(super) fn differences(old: &Account, new: &Account, ignored: &Ignored) -> Vec<Difference> {
    let mut found = Found { path: Vec::new(), ignored, differences: Vec::new() };
    let single = old.ended.len() <= 1 && new.ended.len() <= 1;
    for at in 0..old.ended.len().max(new.ended.len()) {
        let place = if single { None } else { Some(at.to_string()) };
        found.ended(place, old.ended.get(at), new.ended.get(at));
    }
    found.below("emit", |found| found.emits(&old.emits, &new.emits));
    if old.cut != new.cut {
        found.below("emit", |found| {
            let told = |cut: bool| cut.then(|| Value::from("more than are kept"));
            found.at(told(old.cut).as_ref(), told(new.cut).as_ref());
        });
    }
    found.differences
}

struct Found<'a> {
    path: Vec<String>,
    ignored: &'a Ignored,
    differences: Vec<Difference>,
}

impl Found<'_> {
    fn below(&mut self, segment: impl Into<String>, look: impl FnOnce(&mut Self)) {
        self.path.push(segment.into());
        look(self);
        self.path.pop();
    }

    fn at(&mut self, old: Option<&Value>, new: Option<&Value>) {
        if self.differences.len() < MOST && !self.ignored.covers(&self.path) {
            let (path, old, new) = (self.path.join("/"), old.cloned(), new.cloned());
            self.differences.push(Difference { path, old, new });
        }
    }

    fn ended(&mut self, place: Option<String>, old: Option<&Ended>, new: Option<&Ended>) {
        let name = |what: &str| match &place {
            Some(at) => format!("{what}/{at}"),
            None => what.to_owned(),
        };
        let segments = |what: &str| name(what).split('/').map(str::to_owned).collect::<Vec<_>>();
        match (old, new) {
            (Some(Ended::Replied(old)), Some(Ended::Replied(new))) => {
                self.within(segments("reply"), |found| found.values(Some(old), Some(new)));
            }
            (
                Some(Ended::Badly { code: old_code, message: old_message }),
                Some(Ended::Badly { code: new_code, message: new_message }),
            ) => self.within(segments("error"), |found| {
                let (old_code, new_code) = (old_code.as_str().into(), new_code.as_str().into());
                let old_message: Value = without_places(old_message).into();
                let new_message: Value = without_places(new_message).into();
                found.below("code", |it| it.values(Some(&old_code), Some(&new_code)));
                found.below("message", |it| it.values(Some(&old_message), Some(&new_message)));
            }),
            (Some(Ended::NoReply), Some(Ended::NoReply)) => {}
            (old, new) => self.within(segments("outcome"), |found| {
                found.at(old.map(Ended::in_words).as_ref(), new.map(Ended::in_words).as_ref());
            }),
        }
    }

    fn within(&mut self, segments: Vec<String>, look: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        self.path.extend(segments);
        look(self);
        self.path.truncate(before);
    }

    /// By name, in order within a name: of what is sent to two handlers, either may come first.
    fn emits(&mut self, old: &[(String, Value)], new: &[(String, Value)]) {
        let mut names: Vec<&String> = old.iter().chain(new).map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of = |all: &'_ [(String, Value)]| -> Vec<Value> {
                let mine = all.iter().filter(|(it, _)| it == name);
                mine.map(|(_, payload)| payload.clone()).collect()
            };
            let (old, new) = (of(old), of(new));
            for at in 0..old.len().max(new.len()) {
                self.within(vec![name.clone(), at.to_string()], |found| {
                    found.values(old.get(at), new.get(at));
                });
            }
        }
    }

    fn values(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (Some(Value::Object(old)), Some(Value::Object(new))) => {
                let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    self.below(key, |found| found.values(old.get(key), new.get(key)));
                }
            }
            (Some(Value::Array(old)), Some(Value::Array(new))) => {
                for at in 0..old.len().max(new.len()) {
                    self.below(at.to_string(), |found| found.values(old.get(at), new.get(at)));
                }
            }
            (Some(Value::Number(old)), Some(Value::Number(new))) if same_number(old, new) => {}
            (old, new) if old == new => {}
            (old, new) => self.at(old, new),
        }
    }
}

impl Ended {
    fn in_words(&self) -> Value {
        match self {
            Ended::Replied(value) => serde_json::json!({ "replied": value }),
            Ended::NoReply => "no reply".into(),
            Ended::Badly { code, message } => format!("{code}: {message}").into(),
        }
    }
}

/// A message without the lines that tell which places an exception of Python has passed: the same
/// source at another path, or with one more line above, does not do anything else.
fn without_places(message: &str) -> String {
    let follows =
        |after: &str| after.trim_start_matches(|it: char| it.is_ascii_digit()).starts_with(", in ");
    let is_place = |line: &&str| {
        let what = line
            .strip_prefix("  ")
            .filter(|it| !it.starts_with("after ") && !it.starts_with("of "));
        let mut places = what.unwrap_or_default().split(", line ").skip(1);
        places.any(follows)
    };
    let lines: Vec<&str> = message.lines().filter(|line| !is_place(line)).collect();
    lines.join("\n")
}

/// 1 and 1.0 are one number.
fn same_number(old: &Number, new: &Number) -> bool {
    old == new || (old.is_f64() != new.is_f64() && old.as_f64() == new.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replied(value: Value) -> Account {
        Account { ended: vec![Ended::Replied(value)], ..Account::default() }
    }

    fn emitted(emits: &[(&str, Value)]) -> Account {
        let emits = emits.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Account { emits: emits.collect(), ..Account::default() }
    }

    fn bad(code: &str, message: &str) -> Account {
        let (code, message) = (code.to_owned(), message.to_owned());
        Account { ended: vec![Ended::Badly { code, message }], ..Account::default() }
    }

    #[track_caller]
    fn paths(old: &Account, new: &Account, ignored: &[&str]) -> Vec<String> {
        let ignored: Vec<String> = ignored.iter().map(|&it| it.to_owned()).collect();
        let found = differences(old, new, &Ignored::new(&ignored));
        found.into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn replies_differ_where_a_value_does_and_nowhere_else() {
        let old = json!({"a": 1, "b": [1, {"c": "x"}], "same": null, "gone": true});
        let new = json!({"a": 1.0, "b": [1, {"c": "y"}, 3], "same": null, "come": 1});
        let found = paths(&replied(old.clone()), &replied(new), &[]);
        assert_eq!(found, ["reply/b/1/c", "reply/b/2", "reply/come", "reply/gone"]);
        assert_eq!(paths(&replied(old.clone()), &replied(old), &[]), [""; 0]);
        assert_eq!(paths(&replied(json!(1)), &replied(json!("1")), &[]), ["reply"]);
        // Large whole numbers are not made alike by way of a float.
        let (large, next) = (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64));
        assert_eq!(paths(&replied(large), &replied(next), &[]), ["reply"]);
    }

    #[test]
    fn outcomes_of_other_kinds_differ_and_errors_by_code_and_message() {
        let none = Account { ended: vec![Ended::NoReply], ..Account::default() };
        assert_eq!(paths(&none, &none, &[]), [""; 0]);
        assert_eq!(paths(&none, &replied(json!(1)), &[]), ["outcome"]);
        assert_eq!(paths(&Account::default(), &none, &[]), ["outcome"]);
        assert_eq!(paths(&bad("a", "m"), &bad("a", "n"), &[]), ["error/message"]);
        assert_eq!(paths(&bad("a", "m"), &bad("b", "m"), &[]), ["error/code"]);
        assert_eq!(paths(&bad("a", "m"), &bad("a", "n"), &["error/message"]), [""; 0]);
        let both = |second: Value| Account {
            ended: vec![Ended::Replied(json!(1)), Ended::Replied(second)],
            ..Account::default()
        };
        assert_eq!(paths(&both(json!(2)), &both(json!(3)), &[]), ["reply/1"]);
    }

    #[test]
    fn where_an_exception_was_raised_makes_no_difference_and_what_it_followed_does() {
        let raised = |place: &str, cause: &str| {
            let text = format!("KeyError: 'a'\n  {place}: data['a'], line 7\n  after {cause}");
            bad("KeyError", &text)
        };
        let old = raised("/a/m.py, line 3, in read", "OSError: x");
        let moved = raised("/b/c/m.py, line 14, in read", "OSError: x");
        assert_eq!(paths(&old, &moved, &[]), [""; 0]);
        let other = raised("/a/m.py, line 3, in read", "OSError: y");
        assert_eq!(paths(&old, &other, &[]), ["error/message"]);
        let (first, second) = (bad("a", "x, line 1, in y"), bad("a", "x, line 2, in y"));
        assert_eq!(paths(&first, &second, &[]), ["error/message"], "it is the message itself");
    }

    #[test]
    fn emits_are_compared_by_name_and_in_order() {
        let old = emitted(&[("a:x", json!({"n": 1})), ("b:y", json!(1)), ("a:x", json!({"n": 2}))]);
        let other_order =
            emitted(&[("b:y", json!(1)), ("a:x", json!({"n": 1})), ("a:x", json!({"n": 2}))]);
        assert_eq!(paths(&old, &other_order, &[]), [""; 0]);
        let new = emitted(&[("a:x", json!({"n": 1})), ("a:x", json!({"n": 3}))]);
        assert_eq!(paths(&old, &new, &[]), ["emit/a:x/1/n", "emit/b:y/0"]);
    }

    #[test]
    fn what_is_ignored_is_so_with_all_below_it() {
        let of =
            |at: u64, id: u64| replied(json!({"at": at, "list": [{"id": id, "at": {"s": at}}]}));
        let (old, new) = (of(1, 1), of(2, 2));
        assert_eq!(paths(&old, &new, &["**/at"]), ["reply/list/0/id"]);
        assert_eq!(paths(&old, &new, &["reply/*"]), [""; 0]);
        assert_eq!(paths(&old, &new, &["reply/list/*/id", "reply/at"]), ["reply/list/0/at/s"]);
        assert_eq!(paths(&old, &new, &["reply/list/**"]), ["reply/at"]);
        for everything in ["reply/**", "reply/**/**", "**"] {
            assert_eq!(paths(&old, &new, &[everything]), [""; 0], "{everything}");
        }
        assert_eq!(paths(&old, &new, &["emit/**"]).len(), 3);
    }

    #[test]
    fn no_more_is_found_than_anybody_reads() {
        let many = |from: u64| replied((from..from + 500).collect());
        assert_eq!(paths(&many(0), &many(1), &[]).len(), MOST);
    }
}
