//! Why a candidate is no plugin for this host, in an operator's words.

/// What is wrong with a candidate, what was found, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No bytes at all.
    #[error(
        "the file is empty: if it is still being written nothing is wrong, otherwise build and copy it again"
    )]
    Empty,

    /// Some other kind of file under a shared library's name.
    #[error(
        "this is no ELF shared library but {found}: build the plugin with crate-type = [\"cdylib\"] \
         and copy the library that cargo leaves in its target folder"
    )]
    NotElf {
        /// What the file seems to be.
        found: String,
    },

    /// An ELF file for machines with other pointers.
    #[error(
        "this is {found} ELF file, and this host loads 64-bit ones: build the plugin for {host}"
    )]
    Not64Bit {
        /// The file's class, with its article.
        found: String,
        /// The host's architecture.
        host: &'static str,
    },

    /// An ELF file for another processor.
    #[error(
        "this library is for {found}, and this host runs on {host}: build the plugin for {host}"
    )]
    OtherArchitecture {
        /// The file's architecture.
        found: String,
        /// The host's architecture.
        host: &'static str,
    },

    /// An ELF file that cannot be loaded into a process.
    #[error(
        "this is {found}, not a shared library: build the plugin with crate-type = [\"cdylib\"]"
    )]
    NotSharedLibrary {
        /// What the file is, with its article.
        found: String,
    },

    /// The file is shorter than it says itself.
    #[error(
        "the file is torn: it ends after {len} bytes, but its {part} reaches to byte {end}; copy it \
         again, best under a temporary name in the same folder, and rename it when it is complete"
    )]
    Torn {
        /// The first part that is found to lie outside.
        part: String,
        /// Where that part would end.
        end: u64,
        /// The file's length.
        len: u64,
    },

    /// The file is long enough, but its tables make no sense.
    #[error("the file is damaged: its {part} cannot be read ({reason}); build and copy it again")]
    Damaged {
        /// The table that cannot be read.
        part: &'static str,
        /// What the parser says.
        reason: String,
    },

    /// A shared library of somebody else.
    #[error(
        "this is a shared library but no ksi plugin: it has no section {}; take it out of the plugin \
         folder, or build it with ksi-plugin-api and #[plugin]",
        super::SECTION
    )]
    NoManifest,

    /// The manifest is not part of what would be loaded.
    #[error(
        "the section {} lies outside the loadable parts of the library, as in a separate file of \
         debug information; copy the library itself",
        super::SECTION
    )]
    NotLoaded,

    /// A manifest that no plugin needs.
    #[error(
        "the manifest takes {found} bytes, and at most {limit} are read; declare fewer handlers"
    )]
    TooLarge {
        /// The section's size.
        found: u64,
        /// The largest size that is read.
        limit: u64,
    },

    /// The section holds something else.
    #[error(
        "the section {} starts with \"{found}\" instead of \"KSIM1\": it was written by something else \
         than this generation of ksi-plugin-api; rebuild the plugin",
        super::SECTION
    )]
    BadMagic {
        /// The section's first bytes, escaped.
        found: String,
    },

    /// Nothing after the magic.
    #[error("the manifest is empty after its first line; rebuild the plugin")]
    NoJson,

    /// The manifest's text cannot be decoded.
    #[error("the manifest cannot be read ({0}); rebuild the plugin against this ksi-plugin-api")]
    BadJson(#[source] serde_json::Error),

    /// Something that is neither padding nor a manifest follows the manifest.
    #[error("{count} unexpected bytes follow the manifest; rebuild the plugin")]
    TrailingBytes {
        /// How many bytes follow, padding at the end apart.
        count: usize,
    },

    /// Several plugins were linked into one library, and its file is named after none of them.
    #[error(
        "the library holds several plugins ({}), because one of them depends on the crate of another, and \
         the file's name does not tell which one it is: name it libCRATE.so after its crate, as cargo \
         does, or move what the plugins share into a crate without #[plugin]",
        crates.join(", ")
    )]
    SeveralPlugins {
        /// The crates of the plugins.
        crates: Vec<String>,
    },

    /// A symbol that no plugin has.
    #[error(
        "the manifest of plugin `{name}` names the symbol {found:?} for its root module, which is none of \
         a plugin; rebuild it against this host's ksi-plugin-api"
    )]
    BadHeader {
        /// The plugin's name.
        name: String,
        /// The symbol found.
        found: String,
    },

    /// A manifest of a later format.
    #[error(
        "the manifest has format {found}, and this host reads format {supported}: rebuild the plugin \
         against this host's ksi-plugin-api, or use a newer host"
    )]
    UnsupportedFormat {
        /// The format found.
        found: u64,
        /// The format that this host reads.
        supported: u64,
    },

    /// A plugin for another boundary.
    #[error(
        "the plugin was built for ABI version {found}, and this host speaks {host}: {}rebuild it with \
         ksi-plugin-api {}", or_the_host(*found, *host), env!("CARGO_PKG_VERSION")
    )]
    OtherAbi {
        /// The plugin's ABI version.
        found: u64,
        /// The host's ABI version.
        host: u32,
    },

    /// A panic in this plugin would end the host.
    #[error(
        "plugin `{name}` was built with panic = {found:?}, so its first panic would end the host: \
         remove that from the profile in its Cargo.toml (or from RUSTFLAGS) and rebuild it"
    )]
    PanicStrategy {
        /// The plugin's name.
        name: String,
        /// The strategy found.
        found: String,
    },

    /// Versions of snapshots that make no sense.
    #[error(
        "the manifest of plugin `{name}` says nothing sensible about its state ({reason}); rebuild it \
         against this host's ksi-plugin-api"
    )]
    BadState {
        /// The plugin's name.
        name: String,
        /// What is wrong with them.
        reason: &'static str,
    },

    /// A name that cannot be used in events and file names.
    #[error(
        "{found:?} is no plugin name: it takes 1 to {} of the characters a-z, 0-9, _ and -, the first \
         a letter or digit; choose another with #[plugin(name = \"..\")]",
        super::MAX_NAME
    )]
    BadName {
        /// The name found.
        found: String,
    },
}

/// A plugin that is ahead of its host has two ways out.
fn or_the_host(found: u64, host: u32) -> &'static str {
    if found > u64::from(host) { "use a newer host, or " } else { "" }
}
