//! Secrets of plugins' configurations, which stand there by reference alone: a table with the one
//! key `$secret` stands for the text that is found where it says, when the plugin gets it.
//!
//! What is found is in what the plugin gets, and nowhere else: it is never shown, and taken out of
//! what the plugin says of a configuration that it does not take.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    ops::Deref,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use thiserror::Error;

/// The key that makes a table a reference. No field of a Rust type and no name in Python has a `$`,
/// and TOML wants quotes around it, so that no plugin's own table has it by accident.
pub(crate) const KEY: &str = "$secret";

/// What a longer one is, is no secret.
const LONGEST: u64 = 64 << 10;
/// Shorter ones are not taken out of what plugins say: they are in every text.
const SHORTEST_REDACTED: usize = 3;
const REDACTED: &str = "(secret)";

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    /// In a variable of the host's environment.
    Environment(String),
    /// In a file.
    File(PathBuf),
    /// In a credential that systemd gives the host.
    Credential(String),
}

/// Why a secret could not be had. What it is, is in none of them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No such variable.
    #[error("the environment variable {variable} is not set in the host's environment")]
    Unset {
        /// The variable.
        variable: String,
    },
    /// The host was given no credentials.
    #[error(
        "there is no credential {name}: the host has no $CREDENTIALS_DIRECTORY, which systemd gives a service that says \
         LoadCredential={name}:.. or SetCredential={name}:.."
    )]
    NoCredentials {
        /// The credential.
        name: String,
    },
    /// The file is not there, or not to be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It may be a folder, or a pipe.
    #[error("{path} is no regular file", path = .path.display())]
    NoFile {
        /// What is no file.
        path: PathBuf,
    },
    /// It has more than 64 KiB.
    #[error("{place} has more than {} KiB: it is the wrong one, or no secret", LONGEST >> 10)]
    TooLarge {
        /// Where it is.
        place: String,
    },
    /// It is no text.
    #[error("{place} is not UTF-8, and a configuration is text: encode it, as in base64")]
    NotUtf8 {
        /// Where it is.
        place: String,
    },
    /// There is nothing in it.
    #[error("{place} is empty")]
    Empty {
        /// Where it is.
        place: String,
    },
}

impl Reference {
    /// Of a value that is one, or why it is none although it has the key.
    pub(crate) fn of(value: &Value) -> Option<Result<Self, String>> {
        let table = value.as_object()?;
        let place = table.get(KEY)?;
        Some(match (table.len(), place.as_object()) {
            (1, Some(place)) => {
                let mut places = place.iter();
                match (places.next(), places.next()) {
                    (Some((kind, Value::String(at))), None) if !at.is_empty() => Self::at(kind, at),
                    _ => Err(FORM.to_owned()),
                }
            }
            (1, None) => Err(FORM.to_owned()),
            _ => Err(format!("has `{KEY}` and other keys: a reference is that alone")),
        })
    }

    fn at(kind: &str, at: &str) -> Result<Self, String> {
        match kind {
            "env" => match at.contains(['=', '\0']) {
                true => Err(format!("`{at}` is no name of a variable")),
                false => Ok(Self::Environment(at.to_owned())),
            },
            "file" => Ok(Self::File(at.into())),
            "credential" => match at.contains('/') || [".", ".."].contains(&at) {
                true => Err(format!("`{at}` is no name of a credential, which is no path")),
                false => Ok(Self::Credential(at.to_owned())),
            },
            other => Err(format!("`{other}` is no place of a secret: {FORM}")),
        }
    }

    /// The text, and what somebody should know of where it is.
    fn find(&self) -> Result<(String, Option<String>), SecretError> {
        let (text, remark) = match self {
            Self::Environment(variable) => match env::var(variable) {
                Ok(text) => (text, None),
                Err(env::VarError::NotPresent) => {
                    return Err(SecretError::Unset { variable: variable.clone() });
                }
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(SecretError::NotUtf8 { place: self.to_string() });
                }
            },
            Self::File(path) => {
                let (text, found) = self.read(path)?;
                (text, readable_by_others(path, &found))
            }
            Self::Credential(name) => {
                let folder = env::var_os("CREDENTIALS_DIRECTORY").filter(|it| !it.is_empty());
                let no_folder = || SecretError::NoCredentials { name: name.clone() };
                let folder: OsString = folder.ok_or_else(no_folder)?;
                (self.read(&Path::new(&folder).join(name))?.0, None)
            }
        };
        match text.is_empty() {
            true => Err(SecretError::Empty { place: self.to_string() }),
            false => Ok((text, remark)),
        }
    }

    /// A file's text without the end of its last line, which editors add.
    fn read(&self, path: &Path) -> Result<(String, Metadata), SecretError> {
        let read = |source| SecretError::Read { path: path.to_owned(), source };
        // A pipe would hold up whoever opens it.
        let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
        let file: File =
            OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(read)?;
        let found = file.metadata().map_err(read)?;
        if !found.is_file() {
            return Err(SecretError::NoFile { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > LONGEST {
            return Err(SecretError::TooLarge { place: self.to_string() });
        }
        let text = String::from_utf8(bytes);
        let mut text = text.map_err(|_| SecretError::NotUtf8 { place: self.to_string() })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok((text, found))
    }

    /// What is wrong with where it is, as far as that can be told from outside of a host.
    pub(crate) fn remark(&self) -> Option<String> {
        match (self, self.find()) {
            (Self::File(_), Ok((_, remark))) => remark,
            (Self::File(_), Err(error)) => Some(error.to_string()),
            _ => None,
        }
    }
}

const FORM: &str = "a secret is `{ \"$secret\" = { env = \"NAME\" } }`, or `file = \"PATH\"` or `credential = \"NAME\"` in place of `env`";

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(variable) => write!(f, "the environment variable {variable}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Credential(name) => write!(f, "the credential {name}"),
        }
    }
}

fn readable_by_others(path: &Path, found: &Metadata) -> Option<String> {
    let mode = found.mode() & 0o7777;
    let own_group = rustix::process::getegid().as_raw();
    let who = match mode {
        mode if mode & 0o004 != 0 => "every user".to_owned(),
        mode if mode & 0o040 != 0 && found.gid() != own_group => format!("group {}", found.gid()),
        _ => return None,
    };
    let path = path.display();
    Some(format!("{path} may be read by {who} (its mode is {mode:03o}): chmod 600 {path}"))
}

/// All references in a value, by the way to each.
pub(crate) fn references(
    value: &Value,
    path: &str,
    each: &mut impl FnMut(&str, Result<Reference, String>),
) {
    if let Some(reference) = Reference::of(value) {
        return each(path, reference);
    }
    match value {
        Value::Object(table) => {
            table.iter().for_each(|(key, value)| references(value, &format!("{path}.{key}"), each));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, path, each)),
        _ => {}
    }
}

/// Makes the paths of references absolute that are relative to this folder.
pub(crate) fn within(value: &mut Value, folder: &Path) {
    if let Some(Ok(Reference::File(path))) = Reference::of(value) {
        // What is no UTF-8 was none before.
        if let Some(path) = folder.join(path).to_str() {
            *value = serde_json::json!({ KEY: { "file": path } });
        }
        return;
    }
    match value {
        Value::Object(table) => table.values_mut().for_each(|value| within(value, folder)),
        Value::Array(items) => items.iter_mut().for_each(|item| within(item, folder)),
        _ => {}
    }
}

/// Whether there is a reference in a value.
pub(crate) fn has_references(value: &Value) -> bool {
    let mut found = false;
    references(value, "", &mut |_, _| found = true);
    found
}

/// A plugin's configuration as it is given to it, encoded, with the secrets in it.
#[derive(Clone)]
pub(crate) struct PluginConfig {
    bytes: Arc<[u8]>,
    secrets: Arc<[String]>,
}

impl PluginConfig {
    /// Of a plugin that the configuration says nothing of.
    pub(crate) fn nothing() -> Self {
        PluginConfig { bytes: Arc::from(*b"{}"), secrets: Arc::default() }
    }

    /// What is given without having looked for references.
    pub(crate) fn plain(bytes: Vec<u8>) -> Self {
        PluginConfig { bytes: bytes.into(), secrets: Arc::default() }
    }

    /// With what its references stand for. `plugin` is what it is the configuration of, for the
    /// log.
    ///
    /// # Errors
    /// The first secret that cannot be had, and where in the configuration it stands.
    pub(crate) fn of(plugin: &str, value: &Value) -> Result<Self, (String, SecretError)> {
        let (mut value, mut secrets) = (value.clone(), Vec::new());
        fill(&mut value, &format!("plugin.{plugin}"), &mut secrets)?;
        Ok(PluginConfig { bytes: value.to_string().into_bytes().into(), secrets: secrets.into() })
    }

    /// What a plugin says, without its secrets, as they are and as they are written in quotes.
    pub(crate) fn redacted(&self, text: String) -> String {
        let mut text = text;
        for secret in self.secrets.iter().filter(|it| it.len() >= SHORTEST_REDACTED) {
            let quoted = format!("{secret:?}");
            let json = Value::from(secret.as_str()).to_string();
            for form in [secret.as_str(), &quoted[1..quoted.len() - 1], &json[1..json.len() - 1]] {
                if text.contains(form) {
                    text = text.replace(form, REDACTED);
                }
            }
        }
        text
    }
}

impl Deref for PluginConfig {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginConfig({} bytes)", self.bytes.len())
    }
}

fn fill(
    value: &mut Value,
    path: &str,
    secrets: &mut Vec<String>,
) -> Result<(), (String, SecretError)> {
    // What is no reference although it looks like one was refused when the file was read.
    if let Some(Ok(reference)) = Reference::of(value) {
        let (text, remark) = reference.find().map_err(|error| (path.to_owned(), error))?;
        if let Some(remark) = remark {
            tracing::warn!("the secret {path}: {remark}");
        }
        secrets.push(text.clone());
        *value = text.into();
        return Ok(());
    }
    match value {
        Value::Object(table) => table
            .iter_mut()
            .try_for_each(|(key, value)| fill(value, &format!("{path}.{key}"), secrets)),
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, path, secrets)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::json;

    use super::*;

    fn file(path: &Path) -> Value {
        json!({ "a": [{ "$secret": { "file": path } }] })
    }

    fn refused(value: &Value) -> String {
        let (path, error) = PluginConfig::of("x", value).unwrap_err();
        format!("{path}: {error}")
    }

    #[test]
    fn a_secret_of_a_file_is_its_text_without_the_end_of_the_line_and_is_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "hun\"ter\\2\r\n").unwrap();
        let config = PluginConfig::of("x", &file(&path)).unwrap();
        assert_eq!(&*config, json!({"a": ["hun\"ter\\2"]}).to_string().as_bytes());
        assert!(!format!("{config:?}").contains("hun"));
        let said = r#"invalid type: string "hun\"ter\\2", and hun"ter\2 again"#;
        let expected = r#"invalid type: string "(secret)", and (secret) again"#;
        assert_eq!(config.redacted(said.to_owned()), expected);
    }

    #[test]
    fn a_secret_that_cannot_be_had_is_told_by_its_place_and_what_is_wrong_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let told = |expected: &str| {
            let refused = refused(&file(&path));
            assert!(refused.starts_with("plugin.x.a: "), "{refused}");
            assert!(refused.contains(expected), "{refused}");
            assert!(refused.contains(path.to_str().unwrap()), "{refused}");
        };
        told("cannot be read: No such file");
        fs::write(&path, "\n").unwrap();
        told("is empty");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        told("is not UTF-8");
        fs::write(&path, "x".repeat(LONGEST as usize + 1)).unwrap();
        told("has more than 64 KiB");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        told("is no regular file");
        let variable = refused(&json!({ "$secret": { "env": "KSI_NO_SUCH_VARIABLE" } }));
        assert!(variable.contains("KSI_NO_SUCH_VARIABLE is not set"), "{variable}");
        let credential = refused(&json!({ "$secret": { "credential": "db" } }));
        assert!(credential.contains("no $CREDENTIALS_DIRECTORY"), "{credential}");
        assert!(credential.contains("LoadCredential=db:"), "{credential}");
    }

    #[test]
    fn a_file_that_others_can_read_is_remarked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "hunter2").unwrap();
        let remark = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Reference::File(path.clone()).remark()
        };
        assert_eq!(remark(0o600), None);
        assert!(remark(0o644).unwrap().contains("may be read by every user (its mode is 644)"));
    }

    #[test]
    fn what_has_the_key_and_is_no_reference_is_told_with_what_would_be_one() {
        let of = |value: Value| Reference::of(&value);
        assert_eq!(of(json!({"env": "A"})), None);
        assert_eq!(of(json!("$secret")), None);
        let env = Reference::Environment("A".to_owned());
        assert_eq!(of(json!({"$secret": {"env": "A"}})), Some(Ok(env)));
        for bad in [
            json!({"$secret": "A"}),
            json!({"$secret": {}}),
            json!({"$secret": {"env": ""}}),
            json!({"$secret": {"env": 1}}),
            json!({"$secret": {"env": "A", "file": "b"}}),
            json!({"$secret": {"vault": "b"}}),
        ] {
            let told = of(bad.clone()).unwrap().unwrap_err();
            assert!(told.contains("a secret is `{ \"$secret\""), "{bad}: {told}");
        }
        for bad in [
            json!({"$secret": {"env": "A"}, "more": 1}),
            json!({"$secret": {"env": "A=B"}}),
            json!({"$secret": {"credential": "../db"}}),
        ] {
            of(bad.clone()).unwrap().unwrap_err();
        }
    }
}
