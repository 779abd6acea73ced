//! Which packages are plugins, and which folders their source is in. Asks cargo, and builds
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};

use super::DevError;

/// How far below a path packages are looked for, so that a symbolic maze or a whole disk ends.
const DEEPEST: usize = 8;

/// A cargo workspace with plugins in it.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    pub(super) root: PathBuf,
    pub(super) target: PathBuf,
    pub(super) plugins: Vec<Plugin>,
    /// Packages that are plugins by their source, and build none.
    pub(super) overlooked: Vec<NoLibrary>,
}

/// A package with `#[plugin]` in its source that builds no library for a host.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{name} has a #[plugin] and is left out, because it builds no shared library: add \
     `crate-type = [{types}]` under [lib] in {manifest}",
    manifest = manifest.display()
)]
pub(crate) struct NoLibrary {
    name: String,
    /// What its crate type should be.
    types: String,
    manifest: PathBuf,
}

/// A package that builds a plugin.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    pub(super) id: PackageId,
    pub(super) name: String,
    /// What the built file is called.
    pub(super) file: String,
    /// The folders of the package and of the packages beside it that it is built from.
    pub(super) sources: BTreeSet<PathBuf>,
}

/// The plugins below the paths, or without any path those of the workspace around the current
/// folder.
pub(super) fn discover(paths: &[PathBuf]) -> Result<Vec<Workspace>, DevError> {
    let mut workspaces = Vec::new();
    if paths.is_empty() {
        workspaces.push(select(&metadata(Path::new("."))?, None));
    }
    // A manifest belongs to one workspace, and the first to mention it tells of all others.
    let mut known = BTreeMap::new();
    for path in paths {
        let path = path
            .canonicalize()
            .map_err(|source| DevError::Search { folder: path.clone(), source })?;
        for folder in package_folders(&path)? {
            if !known.contains_key(&folder) {
                let metadata = match metadata(&folder) {
                    Ok(metadata) => metadata,
                    // The path itself has to be right; what else lies below may be anything.
                    Err(error) if folder == path => return Err(error),
                    Err(error) => {
                        tracing::warn!("left out: {error}");
                        continue;
                    }
                };
                for package in metadata.workspace_packages() {
                    known.insert(folder_of(package), metadata.workspace_root.clone());
                }
                known.entry(folder.clone()).or_insert(metadata.workspace_root.clone());
                workspaces.push(select(&metadata, Some(paths)));
            }
        }
    }
    if workspaces.iter().all(|workspace| workspace.plugins.is_empty()) {
        let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let place = match paths {
            [] => "in this workspace".into(),
            _ => format!("below {}", shown.join(", ")),
        };
        let overlooked = workspaces.into_iter().flat_map(|workspace| workspace.overlooked);
        return Err(DevError::NoPackages { place, overlooked: overlooked.collect() });
    }
    workspaces
        .retain(|workspace| !workspace.plugins.is_empty() || !workspace.overlooked.is_empty());
    // The folder for the plugins is that of the first.
    workspaces.sort_by_key(|workspace| workspace.plugins.is_empty());
    distinct(&workspaces)?;
    Ok(workspaces)
}

/// The plugins of a workspace that are below one of the paths.
fn select(metadata: &Metadata, below: Option<&[PathBuf]>) -> Workspace {
    let below: Option<Vec<PathBuf>> =
        below.map(|paths| paths.iter().filter_map(|path| path.canonicalize().ok()).collect());
    let packages = metadata.workspace_packages();
    let folders: BTreeMap<PathBuf, &Package> =
        packages.iter().map(|package| (folder_of(package), *package)).collect();
    let wanted = |package: &Package| {
        let folder = folder_of(package);
        let wanted =
            below.as_ref().is_none_or(|paths| paths.iter().any(|path| folder.starts_with(path)));
        let refused = package.metadata.pointer("/ksi/dev") == Some(&serde_json::Value::Bool(false));
        wanted && !refused
    };
    let overlooked =
        packages.iter().filter(|it| wanted(it)).filter_map(|it| no_library(it, &packages));
    let plugins = packages.iter().filter_map(|package| {
        let target = package.targets.iter().find(|target| target.is_cdylib())?;
        let folder = folder_of(package);
        wanted(package).then(|| Plugin {
            id: package.id.clone(),
            name: package.name.to_string(),
            file: format!(
                "{}{}{}",
                std::env::consts::DLL_PREFIX,
                target.name.replace('-', "_"),
                std::env::consts::DLL_SUFFIX
            ),
            sources: sources(folder, &folders),
        })
    });
    Workspace {
        root: metadata.workspace_root.clone().into(),
        target: metadata.target_directory.clone().into(),
        plugins: plugins.collect(),
        overlooked: overlooked.collect(),
    }
}

/// A package that depends on the plugin API and has a `#[plugin]` in its library's source, but
/// builds no `cdylib`. A crate of shared event types has none, and is no mistake.
fn no_library(package: &Package, packages: &[&Package]) -> Option<NoLibrary> {
    if package.targets.iter().any(|target| target.is_cdylib())
        || !package.dependencies.iter().any(|it| it.name == "ksi-plugin-api")
    {
        return None;
    }
    let library = package.targets.iter().find(|target| target.is_lib() || target.is_rlib())?;
    if !has_plugin(library.src_path.parent()?.as_std_path()) {
        return None;
    }
    // For others that depend on it, it has to stay a Rust library.
    let used = packages.iter().flat_map(|it| &it.dependencies).any(|it| it.name == *package.name);
    let types = if used { "\"cdylib\", \"rlib\"" } else { "\"cdylib\"" };
    Some(NoLibrary {
        name: package.name.to_string(),
        types: types.to_owned(),
        manifest: package.manifest_path.clone().into(),
    })
}

/// Whether a source file in the folder or below it has a line that begins with the attribute,
/// before what is there for its tests alone.
fn has_plugin(folder: &Path) -> bool {
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type();
            if kind.as_ref().is_ok_and(|kind| kind.is_dir()) && depth < DEEPEST {
                open.push((path, depth + 1));
            } else if kind.is_ok_and(|kind| kind.is_file())
                && path.extension().is_some_and(|it| it == "rs")
                && std::fs::read_to_string(&path).is_ok_and(|text| {
                    let lines = text.lines().map(str::trim_start);
                    lines.take_while(|line| !line.starts_with("#[cfg(test)]")).any(|line| {
                        ["#[plugin]", "#[plugin(", "#[ksi_plugin_api::plugin"]
                            .iter()
                            .any(|attribute| line.starts_with(attribute))
                    })
                })
            {
                return true;
            }
        }
    }
    false
}

/// The folder of a package and of every package that it is built from by path, however indirectly.
/// Of one outside the workspace just its own folder is known.
fn sources(package: PathBuf, packages: &BTreeMap<PathBuf, &Package>) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![package];
    while let Some(folder) = open.pop() {
        if !found.insert(folder.clone()) {
            continue;
        }
        let dependencies = packages.get(&folder).into_iter().flat_map(|it| &it.dependencies);
        open.extend(dependencies.filter_map(|it| it.path.clone()).map(real));
    }
    found
}

fn folder_of(package: &Package) -> PathBuf {
    real(package.manifest_path.parent().unwrap_or(&package.manifest_path))
}

/// One spelling for one folder, so that they compare.
fn real(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().canonicalize().unwrap_or_else(|_| path.as_ref().to_owned())
}

fn metadata(folder: &Path) -> Result<Metadata, DevError> {
    // Without dependencies it needs no network and no lock file.
    MetadataCommand::new().current_dir(folder).no_deps().exec().map_err(|source| {
        DevError::Metadata { folder: folder.to_owned(), source: Box::new(source) }
    })
}

/// Every folder with a Cargo.toml at or below a path, the nearest first. If there is none, the path
/// itself: its package or workspace may begin above it.
fn package_folders(path: &Path) -> Result<Vec<PathBuf>, DevError> {
    let mut found = Vec::new();
    let mut level = vec![path.to_owned()];
    for _ in 0..DEEPEST {
        let mut next = Vec::new();
        for folder in level {
            let search = |source| DevError::Search { folder: folder.clone(), source };
            if folder.join("Cargo.toml").is_file() {
                found.push(folder.clone());
            }
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(source) if folder == path => return Err(search(source)),
                // Below the path, a folder that may not be read holds nothing for us.
                Err(_) => continue,
            };
            for entry in entries.flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder && !is_output(&entry.file_name()) {
                    next.push(entry.path());
                }
            }
        }
        next.sort();
        level = next;
    }
    if found.is_empty() {
        found.push(path.to_owned());
    }
    Ok(found)
}

/// Folders that hold no source: cargo's output, and what begins with a dot.
pub(super) fn is_output(name: &std::ffi::OsStr) -> bool {
    name == "target" || name.as_encoded_bytes().starts_with(b".")
}

/// Two packages that build one file would replace each other for ever.
fn distinct(workspaces: &[Workspace]) -> Result<(), DevError> {
    let mut files: BTreeMap<&str, &str> = BTreeMap::new();
    for plugin in workspaces.iter().flat_map(|workspace| &workspace.plugins) {
        if let Some(first) = files.insert(&plugin.file, &plugin.name) {
            return Err(DevError::SameFile {
                first: first.into(),
                second: plugin.name.clone(),
                file: plugin.file.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &Path, name: &str, rest: &str) {
        std::fs::create_dir_all(folder.join("src")).expect("a folder");
        std::fs::write(folder.join("src/lib.rs"), "").expect("a file");
        let manifest = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{rest}");
        std::fs::write(folder.join("Cargo.toml"), manifest).expect("a file");
    }

    const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]\n";

    /// A workspace of two plugins, one of them built from a library, and one that is left out;
    /// beside it a plugin alone.
    fn fixture() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a folder");
        std::fs::create_dir(root.join("work")).expect("a folder");
        let members =
            "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\", \"common\", \"base\"]\n";
        std::fs::write(root.join("work/Cargo.toml"), members).expect("a file");
        let on_common = format!("{CDYLIB}[dependencies]\ncommon = {{ path = \"../../common\" }}\n");
        let left_out = format!("[package.metadata.ksi]\ndev = false\n{CDYLIB}");
        package(&root.join("work/plugins/one"), "plugin-one", &on_common);
        package(&root.join("work/plugins/two"), "plugin-two", CDYLIB);
        package(&root.join("work/plugins/not"), "not-this", &left_out);
        package(
            &root.join("work/common"),
            "common",
            "[dependencies]\nbase = { path = \"../base\" }\n",
        );
        package(&root.join("work/base"), "base", "");
        package(&root.join("alone"), "alone", CDYLIB);
        (folder, root)
    }

    fn names<'a>(workspaces: &'a [Workspace]) -> Vec<Vec<&'a str>> {
        let names = |it: &'a Workspace| it.plugins.iter().map(|plugin| plugin.name.as_str());
        workspaces.iter().map(|workspace| names(workspace).collect()).collect()
    }

    #[test]
    fn plugins_are_found_below_a_path_in_every_workspace() {
        let (_folder, root) = fixture();
        let all = discover(std::slice::from_ref(&root)).expect("plugins");
        assert_eq!(names(&all), [vec!["alone"], vec!["plugin-one", "plugin-two"]]);
        let some = discover(&[root.join("work/plugins/two")]).expect("plugins");
        assert_eq!(names(&some), [["plugin-two"]]);
        assert_eq!(some[0].root, root.join("work"));
        assert!(some[0].plugins[0].file.contains("plugin_two"));
        let twice = discover(&[root.join("alone"), root.join("alone")]).expect("plugins");
        assert_eq!(names(&twice), [["alone"]]);
    }

    #[test]
    fn source_is_all_that_a_plugin_is_built_from_in_the_workspace() {
        let (_folder, root) = fixture();
        let found = discover(&[root.join("work/plugins/one")]).expect("plugins");
        let expected = ["base", "common", "plugins/one"].map(|it| root.join("work").join(it));
        assert_eq!(found[0].plugins[0].sources, BTreeSet::from(expected));
    }

    #[test]
    fn a_plugin_that_builds_no_library_is_named_with_the_line_that_is_missing() {
        let (_folder, root) = fixture();
        let api = "[dependencies]\nksi-plugin-api = { path = \"../../../api\" }\n";
        package(&root.join("api"), "ksi-plugin-api", "");
        package(&root.join("work/plugins/events"), "shared-events", api);
        package(&root.join("work/plugins/forgotten"), "forgotten", api);
        package(&root.join("work/plugins/tested"), "tested", api);
        let tests = "#[cfg(test)]\nmod tests {\n    #[plugin]\n    impl It {}\n}\n";
        std::fs::write(root.join("work/plugins/tested/src/lib.rs"), tests).expect("a file");
        let source = "mod inner {\n    #[plugin(runtime)]\n    impl It {}\n}\n";
        std::fs::write(root.join("work/plugins/forgotten/src/lib.rs"), source).expect("a file");
        let found = discover(&[root.join("work")]).expect("plugins");
        let told: Vec<String> = found[0].overlooked.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        for part in ["forgotten has a #[plugin]", "crate-type = [\"cdylib\"]", "Cargo.toml"] {
            assert!(told[0].contains(part), "{told:?}");
        }
        let alone = discover(&[root.join("work/plugins/forgotten")]).expect_err("no plugin");
        assert!(alone.to_string().contains("forgotten has a #[plugin]"), "{alone}");
    }

    #[test]
    fn a_path_without_plugins_is_named() {
        let (_folder, root) = fixture();
        let error = discover(&[root.join("work/base")]).expect_err("no plugin").to_string();
        assert!(error.contains("work/base"), "{error}");
        assert!(matches!(discover(&[root.join("nowhere")]), Err(DevError::Search { .. })));
    }

    #[test]
    fn a_broken_package_below_a_path_is_left_out_and_at_a_path_an_error() {
        let (_folder, root) = fixture();
        std::fs::write(root.join("alone/Cargo.toml"), "[package").expect("a file");
        let found = discover(std::slice::from_ref(&root)).expect("plugins");
        assert_eq!(names(&found), [["plugin-one", "plugin-two"]]);
        assert!(matches!(discover(&[root.join("alone")]), Err(DevError::Metadata { .. })));
    }

    #[test]
    fn two_packages_that_build_one_file_are_refused() {
        let (_folder, root) = fixture();
        package(&root.join("other"), "plugin_two", CDYLIB);
        let error = discover(&[root]).expect_err("one file").to_string();
        assert!(error.contains("plugin-two") && error.contains("plugin_two"), "{error}");
    }
}
