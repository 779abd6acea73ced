//! A line of the log: what stands in it, and its two forms. Whatever a plugin says, a line of the
//! log is one event of it, and steers no terminal.
//!
//! Messages and values are made printable in the form for people, once each; in JSON they are as
//! they came, in JSON's own escapes. What stands around them (time, level, target, names of fields)
//! comes from the host's own code.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

use ksi_host::{LogFormat, printable};
use owo_colors::{OwoColorize, Style};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::output;

/// The target of lines and spans of plugins.
const OF_PLUGINS: &str = "ksi_plugin";
/// What plugins have written of a line's or a span's fields: texts already, `name=value` each.
const OWN_FIELDS: &str = "fields";
/// What tells one event from another: lines that differ in nothing else are alike.
const OF_ONE_EVENT: [&str; 2] = ["event_id", "root_id"];
/// Names in JSON that no field may take.
const RESERVED: [&str; 7] = ["time", "level", "target", "message", "spans", "repeated", "within"];

/// A line before it has a form.
pub(super) struct Line {
    level: Level,
    target: String,
    /// Each as it is shown, the outermost first.
    spans: Vec<String>,
    fields: Fields,
}

impl Line {
    pub(super) fn new(of: &Metadata<'_>) -> Self {
        let target = of.target().to_owned();
        Line { level: *of.level(), target, spans: Vec::new(), fields: Fields::default() }
    }

    /// A line that no event of the log is.
    pub(super) fn of_command(level: Level, message: String) -> Self {
        let fields = Fields { message, ..Fields::default() };
        Line { level, target: "ksi".to_owned(), spans: Vec::new(), fields }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.rest.push((name, Shown::Json(value.into())));
        self
    }

    pub(super) fn fields_mut(&mut self) -> &mut Fields {
        &mut self.fields
    }

    /// It lies in this span, and in those that were named before it.
    pub(super) fn within(&mut self, span: &str) {
        self.spans.push(span.to_owned());
    }

    /// With its line end.
    pub(super) fn formed(&self, format: LogFormat, colours: bool) -> String {
        let mut line = match format {
            LogFormat::Json => self.json(),
            _ => self.human(colours),
        };
        line.push('\n');
        line
    }

    fn human(&self, colours: bool) -> String {
        let dimmed = if colours { Style::new().dimmed() } else { Style::new() };
        let of_level = if colours { colour(self.level) } else { Style::new() };
        let level = format!("{:>5}", self.level.as_str());
        let mut line = format!("{} {} ", now().style(dimmed), level.style(of_level));
        // Writing to a String cannot fail, here and below.
        if !self.spans.is_empty() {
            let _ = write!(line, "{}: ", self.spans.join(":"));
        }
        let _ = write!(line, "{}{} ", self.target.style(dimmed), ":".style(dimmed));
        self.fields.human(&mut line);
        line
    }

    fn json(&self) -> String {
        let mut line = Vec::new();
        let mut put = |name: &str, value: &Value| {
            line.push(format!("{}:{value}", Value::from(name)));
        };
        put("time", &now().into());
        put("level", &self.level.as_str().into());
        put("target", &self.target.as_str().into());
        if !self.spans.is_empty() {
            put("spans", &self.spans.join(":").into());
        }
        put("message", &self.fields.message.as_str().into());
        for (name, value) in &self.fields.rest {
            match RESERVED.contains(name) {
                true => put(&format!("{name}_"), &value.json()),
                false => put(name, &value.json()),
            }
        }
        output::json_line(&format!("{{{}}}", line.join(","))).into_owned()
    }
}

/// Whether two are alike: nothing but their time and their event differs.
impl Hash for Line {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.level.as_str(), &self.target, &self.spans, &self.fields.message).hash(state);
        let others = self.fields.rest.iter().filter(|(name, _)| !OF_ONE_EVENT.contains(name));
        others.for_each(|(name, value)| (name, value.human()).hash(state));
    }
}

/// Says of a count that it was so many lines, in place of the line end.
pub(super) fn repeated(line: &[u8], format: LogFormat, times: u64, seconds: u64) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (line, told) = match format {
        LogFormat::Json => {
            let line = line.strip_suffix(b"}").unwrap_or(line);
            (line, format!(",\"repeated\":{times},\"within\":\"{seconds}s\"}}\n"))
        }
        _ if times == 1 => (line, format!(" (once more within {seconds}s)\n")),
        _ => (line, format!(" ({times} more times within {seconds}s)\n")),
    };
    [line, told.as_bytes()].concat()
}

/// The name of a span with what stands in it: `billing{customer=7}`, and of a plugin's span with
/// the plugin, `charge{plugin=billing order=7}`.
pub(super) fn span(of: &Metadata<'_>, fields: &Fields) -> String {
    let is_of_plugin = of.target() == OF_PLUGINS;
    let mut inner = String::new();
    let mut name = of.name().to_owned();
    for (field, value) in &fields.rest {
        match (*field, is_of_plugin) {
            ("name", true) => name = value.text(),
            ("at", true) => {}
            (OWN_FIELDS | "plugin", true) if value.text().is_empty() => {}
            (OWN_FIELDS, true) => put(&mut inner, &value.text()),
            ("plugin", true) => put(&mut inner, &format!("plugin={}", value.text())),
            (field, _) => put(&mut inner, &format!("{field}={}", value.human())),
        }
    }
    if !inner.is_empty() {
        let _ = write!(name, "{{{inner}}}");
    }
    printable(&name).into_owned()
}

/// Adds something, with a space behind what is there.
fn put(to: &mut String, what: &str) {
    if !to.is_empty() {
        to.push(' ');
    }
    to.push_str(what);
}

fn now() -> String {
    let mut time = String::new();
    // Fails for a time that the clock does not give.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

fn colour(level: Level) -> Style {
    match level {
        Level::ERROR => Style::new().red(),
        Level::WARN => Style::new().yellow(),
        Level::INFO => Style::new().green(),
        Level::DEBUG => Style::new().blue(),
        _ => Style::new().purple(),
    }
}

/// What an event or a span says.
#[derive(Default)]
pub(super) struct Fields {
    message: String,
    rest: Vec<(&'static str, Shown)>,
}

enum Shown {
    Text(String),
    /// As its `Debug` or `Display` has it.
    Formatted(String),
    /// A number, `true` or `false`.
    Json(Value),
}

impl Shown {
    fn human(&self) -> String {
        match self {
            Shown::Text(text) => format!("{text:?}"),
            other => other.text(),
        }
    }

    fn text(&self) -> String {
        match self {
            Shown::Text(text) | Shown::Formatted(text) => text.clone(),
            Shown::Json(Value::String(text)) => text.clone(),
            Shown::Json(value) => value.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Shown::Text(text) | Shown::Formatted(text) => text.as_str().into(),
            Shown::Json(value) => value.clone(),
        }
    }
}

impl Fields {
    /// The message, a plugin's own fields, and then each other field as `name=value`.
    fn human(&self, line: &mut String) {
        line.push_str(&printable(&self.message));
        let own = |name: &str| name == OWN_FIELDS;
        for (_, value) in self.rest.iter().filter(|(name, _)| own(name)) {
            let _ = write!(line, " {}", printable(&value.text()));
        }
        for (name, value) in self.rest.iter().filter(|(name, _)| !own(name)) {
            let _ = write!(line, " {name}={}", printable(&value.human()));
        }
    }

    fn put(&mut self, field: &Field, value: Shown) {
        // A name that is no word of Rust is written with this before it.
        match field.name().trim_start_matches("r#") {
            "message" => self.message = value.text(),
            name => self.rest.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Shown::Formatted(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Shown::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Shown::Json(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Shown::Json(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Shown::Json(value.into()));
    }
}
