//! A built library as bytes, and what is cut from it: other plugins, other versions, bad ones.

use std::ops::Range;

use crate::{error::SoakError, roles::Role};

const MANIFEST: &str = "KSIM1\n{\"format\"";
const VERSION: &str = "soak-version-";
const DEFECT: &str = "soak-defect-";
/// The name that the package gives to its plugin and to the namespace of its events.
const BASE: &str = "count";
const STATE: &str = "\"state\":{\"writes\":[2,1],\"restores\":[2,1]}";
/// The same of a plugin that knows nothing of version 2 yet.
const STATE_V1: &str = "\"state\":{\"writes\":[1],\"restores\":[1]}";
/// The same of a plugin without state.
const NO_STATE: &str = "\"state\":null";

/// What is wrong with a version, on purpose. The digit is what the plugin reads in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None = 0,
    /// `initialize` panics.
    Init = 1,
    /// `restore` fails.
    Restore = 2,
    /// `initialize` panics, but not in the process where it is tried first.
    InitInEarnest = 3,
    /// `restore` fails, but not in the process where it is tried first.
    RestoreInEarnest = 4,
    /// It fails every second request.
    Worse = 5,
    /// Its end is missing. The code in it is good.
    Torn = 9,
}

/// Which versions of its state a plugin writes and restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    None,
    V1,
    V2AndV1,
}

/// One build of the package.
pub(crate) struct Library {
    bytes: Vec<u8>,
    /// Where the manifest's JSON stands, as far as it is text.
    manifest: Range<usize>,
    version: usize,
    defect: usize,
}

impl Library {
    /// # Errors
    /// The bytes are no build of ksi-soak-plugin.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, SoakError> {
        let start = only(&bytes, MANIFEST)?;
        let text = bytes[start..].iter();
        let len = text.take_while(|byte| (b'\n'..0x7f).contains(*byte)).count();
        let version = only(&bytes, VERSION)? + VERSION.len();
        let defect = only(&bytes, DEFECT)? + DEFECT.len();
        only(&bytes[start..start + len], STATE)?;
        Ok(Library { manifest: start..start + len, version, defect, bytes })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The library as that plugin, which keeps this state.
    pub(crate) fn cut(&self, role: Role, state: State) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let manifest = &mut bytes[self.manifest.clone()];
        match state {
            State::None => replace(manifest, STATE, NO_STATE),
            State::V1 => replace(manifest, STATE, STATE_V1),
            State::V2AndV1 => {}
        }
        replace(
            manifest,
            &format!("\"name\":\"{BASE}\""),
            &format!("\"name\":\"{}\"", role.name()),
        );
        replace(manifest, &format!("\"{BASE}:"), &format!("\"{}:", role.name()));
        bytes
    }

    /// What makes a version of it: bytes, and where they go.
    pub(crate) fn marks(&self, version: u32, defect: Defect) -> [(usize, String); 2] {
        [(self.version, format!("{version:08}")), (self.defect, (defect as u8).to_string())]
    }
}

/// The one place where a text stands.
fn only(bytes: &[u8], mark: &'static str) -> Result<usize, SoakError> {
    match places(bytes, mark.as_bytes())[..] {
        [place] => Ok(place),
        ref places => Err(SoakError::Mark { mark, found: places.len() }),
    }
}

/// Puts one text where another is, and spaces, which mean nothing in JSON, where that is longer.
fn replace(bytes: &mut [u8], old: &str, new: &str) {
    let new = format!("{new:<width$}", width = old.len());
    for place in places(bytes, old.as_bytes()) {
        bytes[place..place + old.len()].copy_from_slice(&new.as_bytes()[..old.len()]);
    }
}

fn places(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let Some(first) = text.first() else { return Vec::new() };
    let (mut places, mut from) = (Vec::new(), 0);
    while let Some(next) = bytes[from..].iter().position(|byte| byte == first) {
        let place = from + next;
        if bytes[place..].starts_with(text) {
            places.push(place);
        }
        from = place + 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Vec<u8> {
        let manifest = "KSIM1\n{\"format\":1,\"name\":\"count\",\"state\":{\"writes\":[2,1],\"restores\":[2,1]},\
                        \"subscriptions\":[\"count:add\"]}\n";
        format!("..{manifest}\0count:\0soak-version-00000000soak-defect-0").into_bytes()
    }

    #[test]
    fn another_plugin_and_version_differ_in_their_marks_alone() {
        let library = Library::new(built()).unwrap();
        let mut cut = library.cut(Role::Relay, State::None);
        assert_eq!(cut.len(), built().len());
        for (place, mark) in library.marks(17, Defect::Worse) {
            cut[place..place + mark.len()].copy_from_slice(mark.as_bytes());
        }
        let text = String::from_utf8(cut).unwrap().replace(' ', "");
        let expected = "..KSIM1\n{\"format\":1,\"name\":\"relay\",\"state\":null,\
                        \"subscriptions\":[\"relay:add\"]}\n\0count:\0soak-version-00000017soak-defect-5";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_library_that_is_no_build_of_the_plugin_is_refused() {
        assert!(Library::new(built()[20..].to_vec()).is_err(), "no manifest");
        assert!(Library::new([built(), built()].concat()).is_err(), "two of everything");
    }

    #[test]
    fn every_name_is_as_long_as_the_one_that_it_stands_for() {
        assert!(Role::ALL.iter().all(|role| role.name().len() == BASE.len()));
    }
}
