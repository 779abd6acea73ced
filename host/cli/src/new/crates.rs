//! Where a new plugin has the crates from that plugins are written with: from where its workspace
//! has them, or from a checkout.

use std::path::{Component, Path, PathBuf};

use cargo_metadata::Metadata;
use toml::{Table, Value};

use super::{NewError, read, real};

pub(super) const API: &str = "ksi-plugin-api";
pub(super) const HARNESS: &str = "ksi-harness";
/// What says in a dependency where its crate is.
const SOURCE: &[&str] = &["path", "git", "branch", "tag", "rev", "version", "registry"];

pub(super) struct Crates {
    api: Table,
    harness: Table,
    /// The folder of the API, unless it is what the workspace says it is.
    checkout: Option<PathBuf>,
}

impl Crates {
    /// In the folder that was named, or else where the other members of the workspace have them, or
    /// else in the checkout that this program was built from.
    pub(super) fn find(
        named: Option<&Path>,
        metadata: &Metadata,
        folder: &Path,
    ) -> Result<Self, NewError> {
        if let Some(named) = named {
            return Self::of_checkout(real(named)?, NewError::NotApi);
        }
        if let Some(crates) = Self::of_workspace(metadata, folder)? {
            return Ok(crates);
        }
        let folder = built_from();
        Self::of_checkout(real(&folder).unwrap_or(folder), NewError::NoApi)
    }

    fn of_checkout(
        folder: PathBuf,
        otherwise: impl FnOnce(PathBuf) -> NewError,
    ) -> Result<Self, NewError> {
        let is_of = |folder: &Path, name: &str| {
            let manifest = toml(&folder.join("Cargo.toml"));
            let found =
                manifest.as_ref().ok().and_then(|it| it.get("package")?.get("name")?.as_str());
            found == Some(name)
        };
        let harness = folder.join("harness");
        if !is_of(&folder, API) || !is_of(&harness, HARNESS) {
            return Err(otherwise(folder));
        }
        let (api, harness) = (by_path(&folder)?, by_path(&harness)?);
        Ok(Crates { api, harness, checkout: Some(folder) })
    }

    /// What the workspace says for all, or what another member says for itself.
    fn of_workspace(metadata: &Metadata, folder: &Path) -> Result<Option<Self>, NewError> {
        let root: PathBuf = metadata.workspace_root.clone().into();
        let shared = toml(&root.join("Cargo.toml"))?;
        let shared = |name| {
            let dependencies = shared.get("workspace")?.get("dependencies")?;
            dependencies.get(name).map(source)
        };
        let by_workspace = || Table::from_iter([("workspace".to_owned(), Value::Boolean(true))]);
        if let Some(api) = shared(API) {
            let harness = match shared(HARNESS) {
                Some(_) => by_workspace(),
                None => harness_beside(&moved(api, &root, folder)?),
            };
            return Ok(Some(Crates { api: by_workspace(), harness, checkout: None }));
        }
        for package in metadata.workspace_packages() {
            let manifest: PathBuf = package.manifest_path.clone().into();
            let from = manifest.parent().unwrap_or(&root);
            let read = toml(&manifest)?;
            let Some(api) = read.get("dependencies").and_then(|it| it.get(API)).map(source) else {
                continue;
            };
            let api = moved(api, from, folder)?;
            return Ok(Some(Crates { harness: harness_beside(&api), api, checkout: None }));
        }
        Ok(None)
    }

    /// The line of the manifest for the API.
    pub(super) fn api(&self, features: &[&str]) -> String {
        line(API, &self.api, features)
    }

    /// The line of the manifest for the harness.
    pub(super) fn harness(&self) -> String {
        line(HARNESS, &self.harness, &[])
    }

    /// The versions that the checkout was tested with.
    pub(super) fn lock(&self) -> Option<PathBuf> {
        let lock = self.checkout.as_ref()?.parent()?.join("Cargo.lock");
        lock.is_file().then_some(lock)
    }

    /// Where they are, for people.
    pub(super) fn told(&self) -> String {
        match &self.checkout {
            Some(folder) => format!("from {}: it is on no registry yet", folder.display()),
            None => "from where its workspace has it".to_owned(),
        }
    }
}

/// The folder with both in the checkout that this program was built from.
fn built_from() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).join("plugin-api")
}

fn toml(path: &Path) -> Result<Value, NewError> {
    let no_toml = |source| NewError::Toml { path: path.to_owned(), source: Box::new(source) };
    read(path)?.parse().map(Value::Table).map_err(no_toml)
}

/// Of a dependency what says where it is.
fn source(dependency: &Value) -> Table {
    match dependency {
        Value::Table(table) => {
            let own = table.iter().filter(|(key, _)| SOURCE.contains(&key.as_str()));
            own.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        version => Table::from_iter([("version".to_owned(), version.clone())]),
    }
}

/// A source as it stands in the manifest of one folder, for that of another one.
fn moved(mut source: Table, from: &Path, to: &Path) -> Result<Table, NewError> {
    if let Some(Value::String(path)) = source.get_mut("path")
        && Path::new(path).is_relative()
    {
        *path = text(&relative(to, &real(&from.join(&*path))?))?;
    }
    Ok(source)
}

/// The harness lies in the API's folder, in the same repository, and has the same versions.
fn harness_beside(api: &Table) -> Table {
    let mut source = api.clone();
    if let Some(Value::String(path)) = source.get_mut("path") {
        path.push_str("/harness");
    }
    source
}

fn by_path(folder: &Path) -> Result<Table, NewError> {
    Ok(Table::from_iter([("path".to_owned(), Value::String(text(folder)?))]))
}

fn text(path: &Path) -> Result<String, NewError> {
    path.to_str().map(str::to_owned).ok_or_else(|| NewError::NoText(path.to_owned()))
}

/// The way from one folder to another, both without links.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

fn line(name: &str, source: &Table, features: &[&str]) -> String {
    if features.is_empty() && source.contains_key("workspace") {
        return format!("{name}.workspace = true");
    }
    let features = (!features.is_empty()).then(|| format!("features = {features:?}"));
    let keys = source.iter().map(|(key, value)| format!("{key} = {value}"));
    format!("{name} = {{ {} }}", keys.chain(features).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_one_folder_to_another_leads_over_what_they_share() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(way("/w/plugins/a", "/w/api"), Path::new("../../api"));
        assert_eq!(way("/w", "/w/api"), Path::new("api"));
        assert_eq!(way("/w/a", "/x/api"), Path::new("../../x/api"));
    }

    #[test]
    fn a_checkout_that_is_gone_is_told_with_what_to_do() {
        Crates::of_checkout(built_from(), NewError::NoApi).map(drop).expect("this very checkout");
        let gone = PathBuf::from("/gone/plugin-api");
        let told =
            Crates::of_checkout(gone, NewError::NoApi).err().expect("it is gone").to_string();
        assert!(told.contains("no longer in /gone/plugin-api") && told.contains("--api"), "{told}");
    }

    #[test]
    fn a_dependency_is_written_as_toml_whatever_is_in_its_path() {
        let table = by_path(Path::new("/a \"b\"\\\u{7f}/api")).expect("a path");
        let crates = Crates { harness: harness_beside(&table), api: table, checkout: None };
        for (line, end) in [(crates.api(&["runtime"]), "api"), (crates.harness(), "api/harness")] {
            let read: Table = line.parse().expect(&line);
            let (_, dependency) = read.into_iter().next().expect("a dependency");
            assert_eq!(dependency["path"].as_str(), Some(&*format!("/a \"b\"\\\u{7f}/{end}")));
        }
    }

    #[test]
    fn what_the_workspace_says_is_taken_with_features_of_its_own() {
        let table = Table::from_iter([("workspace".to_owned(), Value::Boolean(true))]);
        let crates = Crates { harness: table.clone(), api: table, checkout: None };
        assert_eq!(crates.api(&[]), "ksi-plugin-api.workspace = true");
        let read: Table = crates.api(&["runtime"]).parse().expect("a line");
        assert_eq!(read[API]["workspace"].as_bool(), Some(true));
        assert_eq!(read[API]["features"][0].as_str(), Some("runtime"));
    }
}
