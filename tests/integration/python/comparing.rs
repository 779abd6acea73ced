//! Modules in `ksi compare`.

use super::*;
use crate::kit::ksi_command;

/// A module that needs a package, and says a word of it and one of its own.
fn needing(own: &str) -> String {
    format!(
        "# /// script\n# dependencies = [\"no-such-ksi-package\"]\n# ///\n\
         from ksi.events import event_handler\nimport no_such_ksi_package\n\
         @event_handler('needy:say')\n\
         async def say(data):\n    return [no_such_ksi_package.WORD, {own:?}]\n"
    )
}

#[test]
fn modules_are_compared_with_the_packages_that_the_host_has_for_them() {
    if !is_there() {
        return;
    }
    // Beside the state, and where the operator wants them.
    for config in ["", "[python]\nenvironments = 'packages'\n"] {
        let host = module(TestHost::builder().config(config), "needy.py", &needing("old")).start();
        let error = host.until_refused("needy.py");
        let target = error.split("--target ").nth(1).unwrap().split(' ').next().unwrap();
        let there = if config.is_empty() { "state-home/ksi" } else { "packages" };
        assert!(std::path::Path::new(target).starts_with(host.dir().join(there)), "{error}");
        // As the command that is told leaves it there.
        fs::create_dir_all(target).unwrap();
        fs::write(format!("{target}/no_such_ksi_package.py"), "WORD = 'here'\n").unwrap();
        let last = error.split(" && ").nth(1).unwrap().split('`').next().unwrap();
        fs::write(last.trim_start_matches("touch "), "").unwrap();
        host.ksi(&["load", host.file("needy.py").to_str().unwrap()]).ok();
        let (new, recorded) = (host.dir().join("needy.py"), host.dir().join("recorded"));
        fs::write(&new, needing("new")).unwrap();
        fs::write(&recorded, "{\"event\": \"needy:say\"}\n").unwrap();
        let mut compare = ksi_command(&["compare", "needy"]);
        compare.args([&new, &"--recorded".into(), &recorded, &"--json".into()]);
        compare.arg("--config").arg(host.dir().join("ksi.toml"));
        compare.arg("--socket").arg(host.socket());
        compare.env("XDG_STATE_HOME", host.dir().join("state-home"));
        compare.env("TMPDIR", host.dir().join("tmp"));
        let output = compare.output().unwrap();
        let told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let difference = &told["differences"][0];
        assert_eq!((&difference["path"], &difference["old"]), (&json!("reply/1"), &json!("old")));
        assert_eq!((told["differing"].as_u64(), &difference["new"]), (Some(1), &json!("new")));
    }
}
