//! What makes a library export a plugin.

/// Makes a library export a plugin: its manifest, its root module, and the fix that makes it
/// unloadable.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($plugin:ty, name = $name:expr, version = $version:expr, crate_name = $crate_name:literal,
     header = $header:literal, runtime = $runtime:literal,
     exclusive = $exclusive:literal,
     isolated = $isolated:literal,
     trial = $trial:literal,
     handlers = [$({ name = $handler:literal, subscriptions = [$($subscription:expr),* $(,)?],
                     priority = $priority:literal, timeout_ms = $timeout:literal,
                     blocking = $blocking:literal }),* $(,)?],
     emits = [$($emits:expr),* $(,)?], requires = [$($requires:expr),* $(,)?],
     writes = [$($writes:literal),* $(,)?], restores = [$($restores:literal),* $(,)?] $(,)?) => {
        const _: () = {
            assert!(
                !$runtime || $crate::__private::HAS_RUNTIME,
                "#[plugin(runtime)] needs the feature `runtime`: cargo add ksi-plugin-api --features runtime"
            );
            const WRITES: &[&str] = &[$($writes),*];
            const fn with_state(text: &'static str, without: &'static str) -> &'static str {
                if WRITES.is_empty() { without } else { text }
            }
            const PARTS: &[&str] = &[
                $crate::__private::manifest::MAGIC,
                "{\"format\":1,\"name\":\"", $name, "\",\"version\":\"", $version,
                "\",\"built\":\"native\",\"crate\":\"", $crate_name, "\",\"header\":\"", $header,
                "\",\"abi\":", $crate::__private::manifest::ABI,
                ",\"rustc\":\"", $crate::__private::manifest::RUSTC,
                "\",\"target\":\"", $crate::__private::manifest::TARGET,
                "\",\"panic\":\"", if cfg!(panic = "abort") { "abort" } else { "unwind" },
                "\",\"state\":", with_state("{\"writes\":[", "null"), $($writes, ",",)*
                with_state("],\"restores\":[", ""), $($restores, ",",)* with_state("]}", ""),
                ",\"runtime\":", stringify!($runtime),
                // Of one length, as the version and the name of a built plugin can be changed in
                // its bytes.
                ",\"exclusive\":", if $exclusive { " true" } else { "false" },
                // Hosts that are older than this read over it.
                ",\"isolated\":", if $isolated { " true" } else { "false" },
                ",\"trial\":", if $trial { " true" } else { "false" },
                ",\"handlers\":[",
                $("{\"name\":\"", $handler, "\",\"subscriptions\":[", $("\"", $subscription, "\",",)*
                  "],\"priority\":", $priority, ",\"timeout_ms\":", $timeout,
                  ",\"blocking\":", $blocking, "},",)*
                "],\"emits\":[", $("\"", $emits, "\",",)*
                "],\"requires\":[", $("\"", $requires, "\",",)* "]}",
            ];
            #[used]
            #[cfg_attr(
                not(any(target_vendor = "apple", windows)),
                unsafe(link_section = ".ksi.manifest")
            )]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__ksi_manifest"))]
            #[cfg_attr(windows, unsafe(link_section = ".ksiman"))]
            static MANIFEST: [u8; $crate::__private::manifest::total(PARTS)] = $crate::__private::manifest::join(PARTS);

            // The name is the crate's own, because a link may hold several plugin crates, and is
            // found in the manifest. The tests of a crate may hold several plugins, so they do not
            // export them; they make them all the same, or else all of a plugin counted as unused.
            #[used]
            #[cfg_attr(not(test), unsafe(export_name = $header))]
            static HEADER: $crate::__private::LibHeader =
                $crate::__private::header::<$plugin>();
        };
        $crate::__private::hidden_functions!();
    };
}
