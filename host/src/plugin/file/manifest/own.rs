//! Which of the plugins in a library is the library's own.
//!
//! A plugin crate may depend on another one, for its event types or for what it can do. Then the
//! library holds both manifests, in whatever order the linker put them, and nothing in the bytes
//! tells which crate the library was made of: cargo compiles a crate once, for its own library and
//! for those of others. What tells is the name that cargo gives to the file, as with the modules of
//! Python that are libraries.

use std::path::Path;

use super::{MAGIC, ManifestError, ManifestPreamble};

/// The manifests of a section, each without what stands around it, and its preamble; at least one.
pub(super) fn manifests(section: &[u8]) -> Result<Vec<(&[u8], ManifestPreamble)>, ManifestError> {
    let mut found = Vec::new();
    let mut rest = section;
    loop {
        let Some(json) = rest.strip_prefix(MAGIC) else {
            return Err(match found.is_empty() {
                true => ManifestError::BadMagic {
                    found: rest[..rest.len().min(MAGIC.len())].escape_ascii().to_string(),
                },
                false => ManifestError::TrailingBytes { count: rest.len() },
            });
        };
        let json = without_padding(json);
        let mut values = serde_json::Deserializer::from_slice(json).into_iter::<ManifestPreamble>();
        let preamble = values.next().ok_or(ManifestError::NoJson)?;
        let end = values.byte_offset();
        found.push((&json[..end], preamble.map_err(ManifestError::BadJson)?));
        rest = json[end..].trim_ascii_start();
        // Some linkers put zeroes between what they join.
        rest = &rest[rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len())..];
        if rest.is_empty() {
            return Ok(found);
        }
    }
}

/// The manifest that belongs to the name of the file, if there is more than one.
pub(super) fn named_after<'a>(
    file: &Path,
    mut manifests: Vec<(&'a [u8], ManifestPreamble)>,
) -> Result<(&'a [u8], ManifestPreamble), ManifestError> {
    if manifests.len() == 1
        && let Some(only) = manifests.pop()
    {
        return Ok(only);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    let fit = |preamble: &ManifestPreamble| {
        let names = [&preamble.crate_name, &preamble.name];
        names.into_iter().flatten().filter_map(|of_plugin| fits(&name, of_plugin)).max()
    };
    let best = manifests.iter().filter_map(|(_, preamble)| fit(preamble)).max();
    let mut fitting: Vec<usize> = (0..manifests.len())
        .filter(|&index| best.is_some() && fit(&manifests[index].1) == best)
        .collect();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(index), true) => Ok(manifests.swap_remove(index)),
        _ => {
            let name = |preamble: &ManifestPreamble| {
                preamble.crate_name.clone().or(preamble.name.clone()).unwrap_or_default()
            };
            let crates = manifests.iter().map(|(_, preamble)| name(preamble)).collect();
            Err(ManifestError::SeveralPlugins { crates })
        }
    }
}

/// How well the file `libNAME.so`, or `NAME-1.2.so`, is named after `of_plugin`: by how many bytes.
fn fits(file: &str, of_plugin: &str) -> Option<usize> {
    let of_plugin = of_plugin.replace('-', "_");
    let stem = file.strip_prefix("lib").unwrap_or(file);
    [file, stem].into_iter().find_map(|file| {
        let rest = file.strip_prefix(of_plugin.as_str())?;
        let ends = rest.chars().next().is_none_or(|next| !next.is_alphanumeric());
        ends.then_some(of_plugin.len())
    })
}

/// Linkers may leave zeroes behind the manifest, and people newlines.
fn without_padding(section: &[u8]) -> &[u8] {
    let is_padding = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let end = section.iter().rposition(|byte| !is_padding(byte)).map_or(0, |last| last + 1);
    &section[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str) -> Result<String, ManifestError> {
        let section = br#"KSIM1
{"format":1,"name":"shop","crate":"ksi_plugin_shop"}
KSIM1
{"format":1,"name":"shop-log","crate":"shop_log"}

"#;
        let mut padded = section.to_vec();
        padded.extend(b"\0\0\0KSIM1\n{\"format\":9,\"name\":\"old\"}\n\0\0");
        let manifests = manifests(&padded).expect("three manifests");
        assert_eq!(manifests.len(), 3);
        named_after(Path::new(file), manifests).map(|(_, preamble)| preamble.name.unwrap())
    }

    #[test]
    fn a_library_is_the_plugin_that_it_is_named_after() {
        for (file, plugin) in [
            ("/plugins/libksi_plugin_shop.so", "shop"),
            ("shop.so", "shop"),
            ("shop-1.2.so", "shop"),
            ("libshop_log.so", "shop-log"),
            ("shop-log.so", "shop-log"),
            ("shop_log.v2.so", "shop-log"),
            ("old.so", "old"),
        ] {
            assert_eq!(of(file).unwrap(), plugin, "{file}");
        }
    }

    #[test]
    fn a_name_that_tells_nothing_is_an_error_that_shows_those_that_do() {
        for file in ["plugin.so", "shopping.so", "libold2.so"] {
            let error = of(file).unwrap_err().to_string();
            assert!(error.contains("ksi_plugin_shop, shop_log, old"), "{file}: {error}");
            assert!(error.contains("libCRATE.so"), "{file}: {error}");
        }
    }
}
