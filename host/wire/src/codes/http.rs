//! What the plugin `http` answers itself, beside what became of an event.

use super::Code;

pub(super) const CODES: &[Code] = &[
    Code::new(
        "token",
        "The request has no token, or not the right one.",
        "A client that does not send `Authorization: Bearer ..`, or a token that was changed.",
        "Send the token of `token_file` or `token_env`.",
    ),
    Code::new(
        "foreign_host",
        "The request names another host than the one that it came to.",
        "A page of another site that has its name lead here, or a proxy that is not listed.",
        "Ask by the address itself, or list the name in `hosts` of `[plugin.http]`.",
    ),
    Code::new(
        "foreign_origin",
        "A page of another site asks.",
        "A browser sends what the page wants, whatever its user thinks of it.",
        "List the site in `origins` of `[plugin.http]`, if it may ask.",
    ),
    Code::new(
        "not_found",
        "There is nothing at this path.",
        "A misspelt path.",
        "See docs/http.md, which has all of them.",
    ),
    Code::new(
        "method",
        "The path is there, and cannot be asked by this method.",
        "`GET` in place of `POST`, most often.",
        "See docs/http.md, which has the methods of each path.",
    ),
    Code::new(
        "invalid_query",
        "The query of the address has a key or a value that is none.",
        "A misspelt one.",
        "The message has those that there are.",
    ),
    Code::new(
        "invalid_attribute",
        "A header that becomes an attribute of the event is no text.",
        "Bytes that are no UTF-8.",
        "Encode it.",
    ),
    Code::new(
        "invalid_json",
        "The body is no JSON.",
        "A form, an empty body, or text without quotes.",
        "Send JSON; `{}` is an event without content.",
    ),
    Code::new(
        "late_body",
        "The body of the request did not arrive in time.",
        "A slow or broken connection.",
        "Send it again, or raise `request_seconds` of `[plugin.http]`.",
    ),
    Code::new(
        "broken_body",
        "The body of the request breaks off.",
        "A client that has ended, or a proxy that cut the connection.",
        "Send it again: nothing of it has happened.",
    ),
    Code::new(
        "invalid_message",
        "A message over the WebSocket is none.",
        "Text that is no JSON, or another `type`.",
        "See docs/http.md, which has the messages.",
    ),
    Code::new(
        "known_id",
        "There is a watch of this id on the connection already.",
        "An id that is used twice.",
        "Choose another one, or end the first.",
    ),
    Code::new(
        "too_many_streams",
        "As many clients look on as may.",
        "Pages that stay open, or `max_streams` of `[plugin.http]` that is too low.",
        "Close some, or raise it.",
    ),
    Code::new(
        "too_many_patterns",
        "As many patterns are looked at as may be.",
        "Many clients, each with patterns of its own.",
        "Watch fewer, or one pattern in place of several.",
    ),
];
