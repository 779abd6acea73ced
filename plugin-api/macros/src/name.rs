//! The rules for names, applied while the plugin is compiled.
//!
//! The host applies the same rules to names that turn up at run time; here they are only explained
//! to the author of a literal.

use syn::{Error, LitStr, Result};

/// The longest name or pattern, in bytes; `ksi_plugin_api::name` has the same limit.
const MAX_EVENT_NAME: usize = 256;

/// The longest name of a plugin, in bytes: what a package name may have.
const MAX_PLUGIN_NAME: usize = 64;

/// Checks the name of one event: at least two segments, no wildcard.
pub(crate) fn check_event_name(name: &LitStr) -> Result<()> {
    explain(name, name_mistake(&name.value()))
}

/// Checks what a handler may subscribe to: an event name or a pattern.
pub(crate) fn check_subscription(pattern: &LitStr) -> Result<()> {
    explain(pattern, pattern_mistake(&pattern.value()))
}

/// What is wrong with a plugin's name, if anything.
pub(crate) fn plugin_name_mistake(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a plugin's name must not be empty".into());
    }
    if name.len() > MAX_PLUGIN_NAME {
        return Some(format!("a plugin's name has at most {MAX_PLUGIN_NAME} bytes"));
    }
    let wrong = name.chars().find(|&c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))?;
    Some(format!(
        "`{name}` is no plugin name: {wrong:?} is not allowed, a plugin's name is made of ASCII \
         letters, digits, `_` and `-`"
    ))
}

fn explain(literal: &LitStr, mistake: Option<String>) -> Result<()> {
    mistake.map_or(Ok(()), |message| Err(Error::new(literal.span(), message)))
}

fn name_mistake(name: &str) -> Option<String> {
    if name.contains('*') {
        return Some(format!(
            "`{name}` is a pattern, not the name of one event: write a full name like \
             \"greet:request\""
        ));
    }
    let what = segments_mistake(name, |_| false).or_else(|| {
        (!name.contains(':'))
            .then(|| "it has one segment, a namespace and a `:` must come first".to_string())
    })?;
    Some(format!("`{name}` is no event name: {what}; write it like \"greet:request\""))
}

fn pattern_mistake(pattern: &str) -> Option<String> {
    if !pattern.contains('*') {
        return name_mistake(pattern);
    }
    let what = segments_mistake(pattern, |segment| matches!(segment, "*" | "**"))?;
    Some(format!(
        "`{pattern}` is no pattern: {what}; write it like \"greet:*\" (one segment), \"greet:**\" \
         (any number) or \"*\" (every event)"
    ))
}

fn segments_mistake(name: &str, is_wildcard: fn(&str) -> bool) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".into());
    }
    if name.len() > MAX_EVENT_NAME {
        return Some(format!("it is longer than {MAX_EVENT_NAME} bytes"));
    }
    name.split(':').filter(|segment| !is_wildcard(segment)).find_map(|segment| {
        if segment.is_empty() {
            return Some("it has an empty segment".into());
        }
        match segment.chars().find(|&c| !is_segment_char(c))? {
            '*' => Some(format!("in `{segment}` a wildcard is not the whole segment")),
            wrong => Some(format!(
                "{wrong:?} is not allowed, segments are made of ASCII letters, digits, `_`, `.` \
                 and `-` and joined by `:`"
            )),
        }
    })
}

fn is_segment_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_two_or_more_segments_pass() {
        for name in ["a:b", "state:update", "a.b:c-d_e:F9"] {
            assert_eq!(name_mistake(name), None, "{name}");
            assert_eq!(pattern_mistake(name), None, "{name}");
        }
    }

    #[test]
    fn whole_segment_wildcards_pass_in_patterns_alone() {
        for pattern in ["*", "**", "a:*", "a:**", "*:b", "a:*:c:**"] {
            assert_eq!(pattern_mistake(pattern), None, "{pattern}");
            let mistake = name_mistake(pattern).unwrap();
            assert!(mistake.contains("is a pattern, not the name of one event"), "{mistake}");
        }
    }

    #[test]
    fn a_bad_name_says_why_and_shows_a_good_one() {
        for (name, why) in [
            ("", "it is empty"),
            ("greet", "it has one segment"),
            ("a::b", "it has an empty segment"),
            (":b", "it has an empty segment"),
            ("a:", "it has an empty segment"),
            ("a:b c", "' ' is not allowed"),
            ("a/b:c", "'/' is not allowed"),
            ("grüße:an", "'ü' is not allowed"),
        ] {
            for mistake in [name_mistake(name).unwrap(), pattern_mistake(name).unwrap()] {
                assert!(mistake.contains(why), "{name}: {mistake}");
                assert!(mistake.contains("write it like \"greet:request\""), "{name}: {mistake}");
            }
        }
    }

    #[test]
    fn a_bad_pattern_says_why_and_shows_good_ones() {
        for (pattern, why) in [
            ("state*", "in `state*` a wildcard is not the whole segment"),
            ("a:***", "in `***` a wildcard is not the whole segment"),
            ("a::*", "it has an empty segment"),
            ("a?:*", "'?' is not allowed"),
        ] {
            let mistake = pattern_mistake(pattern).unwrap();
            assert!(mistake.contains(why), "{pattern}: {mistake}");
            assert!(mistake.contains("write it like \"greet:*\""), "{pattern}: {mistake}");
        }
    }

    #[test]
    fn names_have_a_limit() {
        let longest = format!("a:{}", "b".repeat(254));
        assert_eq!(name_mistake(&longest), None);
        assert!(name_mistake(&format!("{longest}b")).unwrap().contains("longer than 256 bytes"));
        assert_eq!(plugin_name_mistake(&"a".repeat(64)), None);
        assert!(plugin_name_mistake(&"a".repeat(65)).unwrap().contains("at most 64 bytes"));
    }

    #[test]
    fn plugin_names_are_fit_for_tables_and_file_names() {
        for name in ["greeter", "my-plugin_2"] {
            assert_eq!(plugin_name_mistake(name), None, "{name}");
        }
        for (name, why) in
            [("", "must not be empty"), ("../up", "'.' is not allowed"), ("a b", "' ' is not")]
        {
            let mistake = plugin_name_mistake(name).unwrap();
            assert!(mistake.contains(why), "{name}: {mistake}");
        }
    }
}
