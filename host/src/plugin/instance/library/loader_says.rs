//! What to do about what the system's loader says when it does not load a library.
//!
//! Its words are for those who know it, and name a library or a symbol. They stay as they are; what
//! is added is the way out. The texts are those of glibc; what is not known is left to speak for
//! itself.

/// What the loader says, and what to do about it.
const WAYS_OUT: &[(&str, &str)] = &[
    (
        "cannot open shared object file",
        "install that library, put it into a folder `lib` beside the plugin and link the plugin with \
         `-C link-arg=-Wl,-rpath,$ORIGIN/lib`, or set LD_LIBRARY_PATH for the host (`ldd` on the plugin file shows which \
         others are missing)",
    ),
    (
        "cannot allocate memory in static TLS block",
        "it takes its thread-locals from a place of which a process has little: it needs more than there is, or others, \
         earlier generations too, have used it up. Build it without that (mimalloc: feature `local_dynamic_tls`; \
         tikv-jemallocator: feature `disable_initial_exec_tls`; C code: without `-ftls-model=initial-exec`)",
    ),
    (
        "undefined symbol",
        "nothing that it was linked with has that symbol: name the library that has it when the plugin is linked \
         (`cargo::rustc-link-lib`), or rebuild it against the version that is installed here",
    ),
    (
        "' not found (required by",
        "it was built on a newer system than this one: build it on one that is as old as this one, or older",
    ),
    (
        "failed to map segment from shared object",
        "nothing may be executed from the folder of the host's private copies, or there is no memory: if that folder is \
         mounted noexec, or a security policy is about it, name another one (host.private_dir)",
    ),
    (
        "wrong ELF class",
        "a library that it needs is for another kind of processor: install the one for this system",
    ),
];

/// The way out, after a colon, or nothing.
pub(in crate::plugin::instance) fn way_out(said: &str) -> String {
    let known = WAYS_OUT.iter().find(|(text, _)| said.contains(text));
    known.map_or_else(String::new, |(_, way_out)| format!(": {way_out}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_complaint_has_a_way_out_and_unknown_ones_stand_alone() {
        for (said, advice) in [
            (
                "libx.so.1: cannot open shared object file: No such file or directory",
                "install that",
            ),
            ("/t/a.so: cannot allocate memory in static TLS block", "local_dynamic_tls"),
            ("/t/a.so: undefined symbol: missing_one", "rustc-link-lib"),
            ("libc.so.6: version `GLIBC_2.99' not found (required by /t/a.so)", "newer system"),
            ("/t/a.so: failed to map segment from shared object", "host.private_dir"),
            ("/t/a.so: wrong ELF class: ELFCLASS32", "another kind of processor"),
        ] {
            assert!(way_out(said).contains(advice), "{said}");
        }
        assert_eq!(way_out("/t/a.so: file too short"), "");
    }
}
