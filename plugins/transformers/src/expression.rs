//! Conditions, and expressions in templates, by minijinja: a syntax like Python's, over values, and
//! nothing that runs code of the event's.

use std::{collections::BTreeSet, sync::LazyLock, time::SystemTime};

use minijinja::{
    Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    value::{Rest, Serde, from_args},
};
use serde_json::Value as Json;

use crate::{python, scope::Scope};

/// What one evaluation may take, in steps of the machine and in bytes that are made.
const FUEL: u64 = 100_000;

/// The functions that KSI's templates have, and expressions here too.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    // `a.b` of nothing is nothing, as in KSI's conditions.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(method);
    for name in python::FUNCTIONS {
        environment.add_function(*name, move |arguments: Rest<Value>| call(name, &arguments));
    }
    environment
});

/// A compiled expression.
pub(crate) struct Expression {
    compiled: minijinja::Expression<'static, 'static>,
    /// The fields that it looks at.
    names: Vec<String>,
}

impl Expression {
    /// Compiles it. What it calls has to be there.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let compiled =
            ENVIRONMENT.compile_expression_owned(text.trim().to_owned()).map_err(|error| {
                let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                format!("{:?} is no expression: {reason}", text.trim())
            })?;
        let used = Used::of(text);
        used.check().map_err(|unknown| format!("{:?}: {unknown}", text.trim()))?;
        // A field may have the name of a function; what is called is the function.
        let mut names = Vec::from_iter(compiled.undeclared_variables(false));
        names.retain(|name| !used.functions.contains(name));
        Ok(Expression { compiled, names })
    }

    /// Its value.
    pub(crate) fn value(&self, scope: &Scope<'_>) -> Result<Json, String> {
        let value = self.evaluate(scope)?;
        if value.is_undefined() {
            return Err("it has no value".to_owned());
        }
        serde_json::to_value(&value).map_err(|error| error.to_string())
    }

    /// Whether its value counts as true.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        self.evaluate(scope).map(|value| value.is_true())
    }

    fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, String> {
        let fields = self.names.iter().filter_map(|name| {
            let value = match name.as_str() {
                "source_event" => Value::from(scope.event_name()),
                "_ksi_context" => Value::from(Serde(scope.context())),
                field => Value::from(Serde(scope.field(field)?)),
            };
            Some((name.clone(), value))
        });
        let result = self.compiled.eval(Value::from_pairs(fields));
        result.map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => "it takes too long".to_owned(),
            kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
        })
    }
}

/// A method of Python's. What is not there has none, and says no to whatever is asked of it.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(Value::from(false));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    let argument = match arguments {
        [] => None,
        [nothing] if nothing.is_undefined() || nothing.is_none() => {
            return Err(invalid(format!("{name}() is given something that is not there")));
        }
        [_] => {
            let (Serde(argument),): (Serde<Json>,) = from_args(arguments)?;
            Some(argument)
        }
        _ => return Err(Error::from(ErrorKind::TooManyArguments)),
    };
    let result = python::call(name, argument.as_ref(), SystemTime::now());
    result.map(|value| Value::from(Serde(value))).map_err(invalid)
}

/// What an expression calls, by its text: the compiler leaves that to the evaluation, and a typing
/// error is to be told when the file is read.
#[derive(Default)]
struct Used {
    functions: BTreeSet<String>,
    filters: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Used {
    fn of(text: &str) -> Self {
        const WORDS: &[&str] = &["and", "or", "not", "in", "is", "if", "else"];
        let mut used = Used::default();
        let tokens = tokens(text);
        for (at, token) in tokens.iter().enumerate() {
            if !token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                continue;
            }
            let before = |back: usize| at.checked_sub(back).map(|at| tokens[at].as_str());
            let name = || token.clone();
            match before(1) {
                Some("|") => drop(used.filters.insert(name())),
                Some("is") if token != "not" => drop(used.tests.insert(name())),
                Some("not") if before(2) == Some("is") => drop(used.tests.insert(name())),
                Some(".") => {}
                _ if WORDS.contains(&token.as_str()) => {}
                _ if tokens.get(at + 1).is_some_and(|next| next == "(") => {
                    used.functions.insert(name());
                }
                _ => {}
            }
        }
        used
    }

    /// Whether all of it is there; the environment alone knows, so it is asked.
    fn check(&self) -> Result<(), String> {
        let is_there = |probe: String, unknown: ErrorKind| {
            let Ok(compiled) = ENVIRONMENT.compile_expression_owned(probe) else { return true };
            let result = compiled.eval(());
            result.err().is_none_or(|error| error.kind() != unknown)
        };
        let missing = |names: &BTreeSet<String>, probe: fn(&str) -> String, kind: ErrorKind| {
            names.iter().find(|name| !is_there(probe(name), kind)).cloned()
        };
        let probe = |name: &str| format!("{name}()");
        if let Some(name) = missing(&self.functions, probe, ErrorKind::UnknownFunction) {
            let known = python::FUNCTIONS.join(", ");
            return Err(format!("there is no function {name:?} (there are {known})"));
        }
        let probe = |name: &str| format!("''|{name}");
        if let Some(name) = missing(&self.filters, probe, ErrorKind::UnknownFilter) {
            return Err(format!("there is no filter {name:?}"));
        }
        let probe = |name: &str| format!("'' is {name}");
        if let Some(name) = missing(&self.tests, probe, ErrorKind::UnknownTest) {
            return Err(format!("there is no test {name:?}"));
        }
        Ok(())
    }
}

/// Words and signs; texts in quotes are left out.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\'' | '"' => {
                while let Some(inside) = rest.next() {
                    match inside {
                        '\\' => drop(rest.next()),
                        _ if inside == c => break,
                        _ => {}
                    }
                }
                tokens.push(String::from('"'));
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let mut word = String::from(c);
                while let Some(next) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(next);
                }
                tokens.push(word);
            }
            _ if c.is_whitespace() => {}
            _ => tokens.push(String::from(c)),
        }
    }
    tokens
}
