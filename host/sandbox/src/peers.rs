//! To whom a process may speak: ports, and sockets in the file system.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};

/// Ports of TCP that a process may take for itself. Written `"any"` or as a list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// All that the system gives.
    Any,
    /// These alone. Port 0 is "one that is free".
    Only(BTreeSet<u16>),
}

/// Whom a process may connect to. Written `"any"` or as a list of what is allowed:
///
/// - a number: the TCP port, at any address. The kernel cannot tell addresses.
/// - `"udp"`: datagrams to and from anywhere, which names need to be resolved (DNS).
/// - a text with a `/`: the Unix socket at that path. Before Linux 7.1 the kernel cannot tell them
///   either, so one of them allows all.
///
/// ```
/// use ksi_sandbox::Peers;
///
/// let peers: Peers = serde_json::from_str(r#"[443, "udp", "/run/db.sock"]"#)?;
/// assert!(matches!(peers, Peers::Only { udp: true, .. }));
/// let error = serde_json::from_str::<Peers>(r#"["db:5432"]"#).unwrap_err().to_string();
/// assert!(error.contains("write the port alone"), "{error}");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Everybody.
    Any,
    /// These alone.
    Only {
        /// TCP ports, at any address.
        ports: BTreeSet<u16>,
        /// Datagrams to and from anywhere.
        udp: bool,
        /// Unix sockets, or folders of them.
        sockets: BTreeSet<PathBuf>,
    },
}

impl Default for Ports {
    /// None.
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

impl Default for Peers {
    /// Nobody.
    fn default() -> Self {
        Self::Only { ports: BTreeSet::new(), udp: false, sockets: BTreeSet::new() }
    }
}

impl Ports {
    /// Whether none is allowed.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Peers {
    /// Whether nobody is allowed.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

const ANY: &str = "any";
const UDP: &str = "udp";

/// One of a list, as it is written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a port from 0 to 65535, or a text")]
enum Entry {
    Port(u16),
    Text(String),
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Some(entries) = from.deserialize_any(AnyOr("a list of ports"))? else {
            return Ok(Self::Any);
        };
        let port = |entry| match entry {
            Entry::Port(port) => Ok(port),
            Entry::Text(text) => {
                Err(de::Error::custom(format!("`{text}` is no port: write a number, as in [8080]")))
            }
        };
        entries.into_iter().map(port).collect::<Result<_, _>>().map(Self::Only)
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a list of ports, \"udp\" and paths of Unix sockets";
        let Some(entries) = from.deserialize_any(AnyOr(what))? else { return Ok(Self::Any) };
        let (mut ports, mut udp, mut sockets) = (BTreeSet::new(), false, BTreeSet::new());
        for entry in entries {
            match entry {
                Entry::Port(port) => drop(ports.insert(port)),
                Entry::Text(text) if text == UDP => udp = true,
                Entry::Text(text) if text.contains('/') => drop(sockets.insert(text.into())),
                Entry::Text(text) => {
                    return Err(de::Error::custom(format!(
                        "`{text}` is neither a port, \"udp\" nor the path of a Unix socket: write \
                         the port alone, as in [443], because the kernel cannot tell addresses"
                    )));
                }
            }
        }
        Ok(Self::Only { ports, udp, sockets })
    }
}

/// `"any"`, which is none, or a list.
struct AnyOr(&'static str);

impl<'de> de::Visitor<'de> for AnyOr {
    type Value = Option<Vec<Entry>>;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "\"any\" or {}", self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            ANY => Ok(None),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Some(entries))
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => to.serialize_str(ANY),
            Self::Only(ports) => to.collect_seq(ports),
        }
    }
}

impl Serialize for Peers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self::Only { ports, udp, sockets } = self else { return to.serialize_str(ANY) };
        let mut list = to.serialize_seq(None)?;
        ports.iter().try_for_each(|port| list.serialize_element(port))?;
        if *udp {
            list.serialize_element(UDP)?;
        }
        sockets.iter().try_for_each(|path| list.serialize_element(path))?;
        list.end()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => to.write_str(ANY),
            Self::Only(ports) => listed(to, ports.iter().map(u16::to_string)),
        }
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Only { ports, udp, sockets } = self else { return to.write_str(ANY) };
        let ports = ports.iter().map(u16::to_string);
        let udp = udp.then(|| UDP.to_owned());
        listed(to, ports.chain(udp).chain(sockets.iter().map(|path| path.display().to_string())))
    }
}

fn listed(to: &mut fmt::Formatter<'_>, all: impl Iterator<Item = String>) -> fmt::Result {
    let all: Vec<String> = all.collect();
    match all.is_empty() {
        true => to.write_str("none"),
        false => to.write_str(&all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_back_as_it_went() {
        for text in ["\"any\"", "[]", "[80,443]", "[443,\"udp\",\"/run/x\",\"./a/b\"]"] {
            let peers: Peers = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&peers).unwrap(), text);
        }
        for text in ["\"any\"", "[]", "[0,8080]"] {
            let ports: Ports = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&ports).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_peer_is_refused_with_what_to_write() {
        for (text, said) in [
            ("[\"db:5432\"]", "write the port alone"),
            ("[70000]", "a port from 0 to 65535"),
            ("\"all\"", "\"any\" or a list"),
            ("5", "\"any\" or a list"),
        ] {
            let error = serde_json::from_str::<Peers>(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let error = serde_json::from_str::<Ports>("[\"udp\"]").unwrap_err().to_string();
        assert!(error.contains("`udp` is no port"), "{error}");
    }
}
