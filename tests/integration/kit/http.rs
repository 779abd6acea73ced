//! A client of HTTP/1.1 in plain std, which asks one request after another.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::PATIENCE;

/// What a request was answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Over a connection for each request, or over one that it keeps for as long as the server says.
pub(crate) struct HttpClient {
    address: SocketAddr,
    keeps: bool,
    open: Option<BufReader<TcpStream>>,
    pub(crate) connections: usize,
}

impl HttpClient {
    pub(crate) fn new(address: SocketAddr, keeps: bool) -> Self {
        HttpClient { address, keeps, open: None, connections: 0 }
    }

    /// Posts JSON.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let (status, body) = self.ask("POST", path, &body.to_string())?;
        Ok(Answer { status, body: serde_json::from_str(&body)? })
    }

    /// What is there, as text.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        self.ask("GET", path, "")
    }

    /// Nothing is tried twice: a connection that is closed without a word is an error.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                self.connections += 1;
                BufReader::new(stream)
            }
        };
        let connection = if self.keeps { "keep-alive" } else { "close" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let (status, body, closes) = read_answer(&mut stream)?;
        if self.keeps && !closes {
            self.open = Some(stream);
        }
        Ok((status, body))
    }
}

/// Status, body, and whether the server closes the connection behind it.
fn read_answer(from: &mut impl BufRead) -> io::Result<(u16, String, bool)> {
    let mut lines = Vec::<String>::new();
    while lines.last().is_none_or(|line| !line.is_empty()) {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            let text = format!("the connection was closed behind {lines:?}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
    let header = |name| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{lines:?}"));
    let status = lines[0].split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(invalid)?;
    let length = header("content-length:").and_then(|it| it.parse().ok()).ok_or_else(invalid)?;
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let closes = header("connection:") == Some("close");
    let body = String::from_utf8(body).map_err(|_| invalid())?;
    Ok((status, body, closes))
}
