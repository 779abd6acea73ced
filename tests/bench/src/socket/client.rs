//! Clients that keep so many requests in flight and check every reply, each on a connection and a
//! thread of its own.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use ksi_bench_events::Letter;
use ksi_wire::line;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::BenchError;

/// Nothing takes so long but what never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A reply. What an echo sends back reads the same.
#[derive(Deserialize)]
struct Line<'a> {
    correlation_id: usize,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A request, again and again; its place is its correlation id.
struct Request {
    line: Vec<u8>,
    data: String,
    waits: bool,
}

/// Has each connection ask so many times. Gives the requests a second.
///
/// # Errors
/// The socket does not answer, or answers wrongly.
pub(super) fn ask(
    socket: &Path,
    connections: u32,
    in_flight: u32,
    each: u32,
) -> Result<f64, BenchError> {
    let connect = |_| UnixStream::connect(socket).map_err(BenchError::Socket);
    let streams: Vec<_> = (0..connections).map(connect).collect::<Result<_, _>>()?;
    let begin = Barrier::new(streams.len() + 1);
    let requests = (0..in_flight).map(request).collect::<Result<Vec<_>, _>>()?;
    let seconds = thread::scope(|scope| {
        let clients: Vec<_> = streams
            .into_iter()
            .map(|stream| {
                let (begin, requests) = (&begin, requests.iter().map(Request::again).collect());
                scope.spawn(move || {
                    begin.wait();
                    client(stream, requests, each)
                })
            })
            .collect();
        begin.wait();
        let began = Instant::now();
        let gone = || BenchError::Wrong("a client of the socket".to_owned());
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| gone())?)?;
        Ok::<_, BenchError>(began.elapsed().as_secs_f64())
    })?;
    Ok(f64::from(connections) * f64::from(each) / seconds)
}

/// A handler that sends the letter back encodes it in the same way, to the same bytes.
fn request(id: u32) -> Result<Request, BenchError> {
    let letter = Letter::ask(ksi_bench_events::number_of(id.into()), false);
    let data = serde_json::value::to_raw_value(&letter)?;
    let asked = line::Request { event: "bench:echo", data: &data, correlation_id: id };
    let mut line = serde_json::to_vec(&asked)?;
    line.push(b'\n');
    Ok(Request { line, data: data.get().to_owned(), waits: false })
}

impl Request {
    fn again(&self) -> Self {
        Request { line: self.line.clone(), data: self.data.clone(), waits: false }
    }
}

fn client(mut stream: UnixStream, mut requests: Vec<Request>, each: u32) -> Result<(), BenchError> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(BenchError::Socket)?;
    let (mut sent, mut done) = (0, 0);
    let mut out = Vec::new();
    for request in requests.iter_mut().take(each as usize) {
        out.extend_from_slice(&request.line);
        request.waits = true;
        sent += 1;
    }
    let mut buffer = vec![0; 1 << 16];
    let mut filled = 0;
    while done < each {
        stream.write_all(&out).map_err(BenchError::Socket)?;
        out.clear();
        let read = stream.read(&mut buffer[filled..]).map_err(BenchError::Socket)?;
        if read == 0 {
            return Err(BenchError::Wrong("the end of the connection".to_owned()));
        }
        filled += read;
        let mut start = 0;
        while let Some(len) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[start..start + len];
            let request = answered(line, &mut requests)?;
            start += len + 1;
            done += 1;
            if sent < each {
                out.extend_from_slice(&request.line);
                request.waits = true;
                sent += 1;
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
    Ok(())
}

/// The request that a line answers, rightly.
fn answered<'a>(line: &[u8], requests: &'a mut [Request]) -> Result<&'a mut Request, BenchError> {
    let wrong = || BenchError::Wrong(String::from_utf8_lossy(line).into_owned());
    let Line { correlation_id, data } = serde_json::from_slice(line)?;
    let request = requests.get_mut(correlation_id).ok_or_else(wrong)?;
    match std::mem::take(&mut request.waits) && request.data == data.get() {
        true => Ok(request),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_once_and_only_with_the_data_of_its_request() {
        let mut requests = vec![request(0).unwrap(), request(1).unwrap()];
        let echo = requests[1].line.clone();
        requests.iter_mut().for_each(|request| request.waits = true);
        assert!(answered(&echo, &mut requests).is_ok());
        assert!(answered(&echo, &mut requests).is_err(), "twice");
        let text = String::from_utf8(requests[0].line.clone()).unwrap();
        assert!(
            answered(text.replace("1000000000", "1000000009").as_bytes(), &mut requests).is_err()
        );
        assert!(answered(b"{\"correlation_id\":7,\"data\":{}}", &mut requests).is_err());
    }
}
