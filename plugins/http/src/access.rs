//! Who may ask: what is checked of a request's head before anything is done for it.
//!
//! A page of any site can have a browser send requests to this machine. It cannot choose what the
//! browser says of it: the name that it looked up (`Host`) and the site that it is of (`Origin`).

use std::{fs::File, io::Read, net::IpAddr};

use axum::http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, ORIGIN, VARY,
    },
    request::Parts,
};
use ksi_plugin_api::prelude::*;
use subtle::ConstantTimeEq;

use crate::{answer::Refused, config::invalid};

/// Shorter ones can be guessed.
const SHORTEST_TOKEN: usize = 16;
const LONGEST_TOKEN: usize = 4_096;

/// What is answered to whoever asks how the host is, before he has said who he is.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// What clients bring. It has neither `Debug` nor `Display`.
pub(crate) struct Token(Vec<u8>);

impl Token {
    pub(crate) fn read(file: Option<&str>, variable: Option<&str>) -> Result<Option<Token>> {
        let (place, text) = match (file, variable) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(invalid("token_file and token_env are both there: leave one of them"));
            }
            (Some(path), None) => {
                let mut text = String::new();
                let read = File::open(path)
                    .and_then(|file| file.take(LONGEST_TOKEN as u64 + 2).read_to_string(&mut text));
                let place = format!("the token file {path:?}");
                read.map_err(|error| invalid(format_args!("{place} cannot be read: {error}")))?;
                (place, text)
            }
            (None, Some(variable)) => {
                let place = format!("the environment variable {variable:?}");
                let text = std::env::var(variable)
                    .map_err(|_| invalid(format_args!("{place}, of token_env, has no text")))?;
                (place, text)
            }
        };
        let token = text.trim_end();
        let fits = (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len());
        match fits && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(Token(token.into()))),
            false => Err(invalid(format_args!(
                "{place} has {} bytes that are no token: it takes {SHORTEST_TOKEN} to {LONGEST_TOKEN} visible ASCII \
                 characters, such as `openssl rand -hex 32` writes",
                token.len()
            ))),
        }
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes);
        match given.split_at_checked(7) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
                self.0.ct_eq(token).into()
            }
            _ => false,
        }
    }
}

/// What is asked of every request.
pub(crate) struct Access {
    /// Nobody from elsewhere can connect.
    is_local: bool,
    token: Option<Token>,
    /// In lower case.
    hosts: Vec<String>,
    origins: Vec<HeaderValue>,
}

/// A request that may go on, or one that is answered here.
pub(crate) enum Admitted {
    /// With headers for the answer.
    Yes(HeaderMap),
    /// A browser's question whether a page of another site may ask: yes.
    Preflight(HeaderMap),
}

impl Access {
    pub(crate) fn new(
        is_local: bool,
        token: Option<Token>,
        mut hosts: Vec<String>,
        origins: Vec<String>,
    ) -> Result<Self> {
        hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
        let origins = origins.into_iter().map(|origin| match origin.split_once("://") {
            Some(("http" | "https", host)) if !host.is_empty() && !host.contains(['/', '*']) => {
                HeaderValue::try_from(origin).map_err(Into::into)
            }
            _ => Err(invalid(format_args!(
                "{origin:?} in origins is none: write it as browsers do, \"https://ops.example.org\""
            ))),
        });
        Ok(Access { is_local, token, hosts, origins: origins.collect::<Result<_>>()? })
    }

    pub(crate) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether a request may go on.
    pub(crate) fn admits(&self, head: &Parts) -> Result<Admitted, Refused> {
        let headers = &head.headers;
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if self.is_local && !self.is_own_name(host) {
            let text = format!(
                "this is no name of this machine: {host:?}; names that it has beside localhost are listed in `hosts` of \
                 [plugin.http]"
            );
            return Err(Refused::new(StatusCode::FORBIDDEN, "foreign_host", text));
        }
        let shared = match headers.get(ORIGIN) {
            Some(origin) if !is_same(origin, host) => self.shared_with(origin, head)?,
            _ => HeaderMap::new(),
        };
        let asks_first = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if head.method == Method::OPTIONS && asks_first && !shared.is_empty() {
            return Ok(Admitted::Preflight(shared));
        }
        let token = self.token.as_ref().filter(|_| !OPEN_PATHS.contains(&head.uri.path()));
        match token.is_none_or(|token| token.is_in(headers)) {
            true => Ok(Admitted::Yes(shared)),
            false => {
                let text = "this needs the header `authorization: Bearer TOKEN`";
                Err(Refused::new(StatusCode::UNAUTHORIZED, "token", text))
            }
        }
    }

    fn is_own_name(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
            || self.hosts.contains(&name)
    }

    /// What a browser is told, so that it gives the answer to a page of this site.
    fn shared_with(&self, origin: &HeaderValue, head: &Parts) -> Result<HeaderMap, Refused> {
        if !self.origins.contains(origin) {
            let text = format!(
                "pages of {origin:?} may not ask here; sites that may are listed in `origins` of [plugin.http]"
            );
            return Err(Refused::new(StatusCode::FORBIDDEN, "foreign_origin", text));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(VARY, HeaderValue::from_static("origin"));
        match head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            None => {
                let own = HeaderValue::from_static("traceparent, tracestate");
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, own);
            }
            Some(wanted) => {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
        }
        if head.method == Method::OPTIONS {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Ok(headers)
    }
}

/// Whether the page is one of the server's own.
fn is_same(origin: &HeaderValue, host: &str) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |it, (key, value)| it.header(*key, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn local(origins: &[&str]) -> Access {
        let origins = origins.iter().map(|&it| it.to_owned()).collect();
        Access::new(true, None, vec!["Box.Example".to_owned()], origins).unwrap()
    }

    /// The status, or 200.
    fn status(access: &Access, head: &Parts) -> u16 {
        access.admits(head).map_or_else(|refused| refused.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_name_that_is_not_of_this_machine_is_refused_where_it_alone_is_served() {
        let access = local(&[]);
        for own in [
            "localhost",
            "LOCALHOST:7573",
            "a.localhost",
            "127.0.0.1:1",
            "[::1]:2",
            "box.example:3",
        ] {
            assert_eq!(status(&access, &head("GET", "/", &[("host", own)])), 200, "{own}");
        }
        for other in ["evil.example", "evil.example:7573", "10.0.0.1", "localhost.evil.example", ""]
        {
            assert_eq!(status(&access, &head("GET", "/", &[("host", other)])), 403, "{other}");
        }
        assert_eq!(status(&access, &head("GET", "/", &[])), 403, "without a name");
    }

    #[test]
    fn pages_of_other_sites_may_ask_if_they_are_listed_and_are_told_so_beforehand() {
        let asks = |origin, more: &[(&'static str, &'static str)]| {
            let own = [("host", "localhost:1"), ("origin", origin)];
            head("POST", "/events/a:b", &[&own[..], more].concat())
        };
        let access = local(&["https://ops.example"]);
        assert_eq!(status(&access, &asks("http://localhost:1", &[])), 200, "its own page");
        for other in ["http://localhost:2", "https://evil.example", "null", "https://ops.example:1"]
        {
            assert_eq!(status(&access, &asks(other, &[])), 403, "{other}");
        }
        let Ok(Admitted::Yes(headers)) = access.admits(&asks("https://ops.example", &[])) else {
            panic!("it is listed")
        };
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://ops.example");
        let mut asks_first = asks(
            "https://ops.example",
            &[
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization"),
            ],
        );
        asks_first.method = Method::OPTIONS;
        let Ok(Admitted::Preflight(headers)) = access.admits(&asks_first) else {
            panic!("it is answered here")
        };
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
        assert_eq!(status(&local(&[]), &asks_first), 403, "none is listed by default");
    }

    #[test]
    fn a_token_is_asked_for_but_for_whether_the_host_is_well() {
        let token = Some(Token(b"0123456789abcdef".to_vec()));
        let access = Access::new(false, token, Vec::new(), Vec::new()).unwrap();
        let with = |path, token| status(&access, &head("GET", path, &[("authorization", token)]));
        assert_eq!(with("/metrics", "Bearer 0123456789abcdef"), 200);
        assert_eq!(with("/metrics", "bearer 0123456789abcdef"), 200);
        for other in
            ["Bearer 0123456789abcdeX", "Bearer 0123456789abcde", "0123456789abcdef", "Bearer "]
        {
            assert_eq!(with("/metrics", other), 401, "{other}");
        }
        assert_eq!(status(&access, &head("GET", "/metrics", &[])), 401);
        assert_eq!(status(&access, &head("GET", "/healthz", &[])), 200);
        assert_eq!(status(&access, &head("GET", "/healthz/x", &[])), 401);
    }
}
