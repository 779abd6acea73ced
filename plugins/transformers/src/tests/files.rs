//! Files, read and read again.

use rustix::fs::{CWD, FileType, Mode};

use super::*;

const GOOD: &str = "transformers:\n  - {name: good, source: in:event, target: out:event}\n";

#[test]
fn all_forms_of_ksis_files_are_read() {
    let folder = Folder::with(
        "services/list.yaml",
        "---\n# a comment\nname: a_set\nversion: 1.0.0\ntransformers:\n  - name: in_list\n    source: in:event\n    target: out:event\n    enabled: yes\n    priority: 100\n",
    );
    folder.write("system/documents.yml", "---\n- name: first\n  source: a:b\n  target: c:d\n---\n- name: second\n  source: a:b\n  target: c:d\n---\nname: single\nsource: a:b\ntarget: c:d\n");
    folder.write("empty.yaml", "# nothing\ntransformers: []\n");
    folder.write("notes.md", "not read");
    folder.write(".hidden.yaml", "not read: [");
    let plugin = folder.start();
    assert_eq!(problems(&plugin), [] as [&str; 0]);
    assert_eq!(names(&plugin), ["in_list", "first", "second", "single"]);
}

#[test]
fn every_mistake_is_told_with_its_file_line_and_name_and_the_others_stay() {
    let folder = Folder::with("good.yaml", GOOD);
    folder.write("torn.yaml", "transformers:\n  - name: [a\n    source: b:c\n");
    folder.write("other.yaml", "agents:\n  a: 1\n");
    folder.write(
        "wrong.yaml",
        r#"transformers:
  - name: no_target
    source: a:b
  - name: no_source
    source_pattern: a:b
    target: c:d
  - name: bad_name
    source: a:b
    target: c
  - name: bad_pattern
    source: a*:b
    target: c:d
  - name: bad_condition
    source: a:b
    target: c:d
    condition: >-
      status exists
  - name: bad_call
    source: a:b
    target: c:d
    condition: "resolve(a) == 1"
  - name: bad_filter
    source: a:b
    target: c:d
    condition: "name|shout == 'A'"
  - name: bad_template
    source: a:b
    target: c:d
    mapping:
      fine: "{{a}}"
      deep:
        - "{{agents.*.name}}"
  - name: bad_async
    source: a:b
    target: c:d
    async: sometimes
  - name: fine
    source: a:b
    target: c:d
    conditon: "a == 1"
  - just text
"#,
    );
    let plugin = folder.start();
    assert_eq!(names(&plugin), ["good", "fine"]);
    let expected = [
        "other.yaml:1 -: there are no transformers in it: a list under the key `transformers` is wanted",
        "torn.yaml:3 -: it is no YAML: ",
        "wrong.yaml:2 no_target: it has no `target`",
        "wrong.yaml:4 no_source: it has no `source`; `source_pattern` is not read, as in KSI",
        "wrong.yaml:7 bad_name: target: \"c\" is no event name: it needs a namespace",
        "wrong.yaml:10 bad_pattern: source: \"a*:b\" is no event name or pattern: in \"a*\" the '*' must be the whole segment",
        "wrong.yaml:17 bad_condition: condition: \"status exists\" is no expression: unexpected input after expression",
        "wrong.yaml:21 bad_call: condition: \"resolve(a) == 1\": there is no function \"resolve\" (there are ",
        "wrong.yaml:25 bad_filter: condition: \"name|shout == 'A'\": there is no filter \"shout\"",
        "wrong.yaml:32 bad_template: mapping: \"agents.*.name\" is no expression: ",
        "wrong.yaml:36 bad_async: `async` is to be true or false",
        "wrong.yaml:40 fine: \"conditon\" says nothing here",
        "wrong.yaml:41 -: a transformer is a mapping with `source` and `target`",
    ];
    let found = problems(&plugin);
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_named_pipe_is_told_and_not_waited_for() {
    let folder = Folder::with("good.yaml", GOOD);
    let pipe = folder.path("pipe.yaml");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let plugin = folder.start();
    assert_eq!(problems(&plugin), ["pipe.yaml:null -: it cannot be read: it is no file"]);
    assert_eq!(names(&plugin), ["good"]);
}

#[test]
fn a_reload_takes_up_what_has_changed_and_leaves_the_rest() {
    let folder = Folder::with("a.yaml", GOOD);
    folder.write("b.yaml", "transformers:\n  - {name: goes, source: in:event, target: b:b}\n");
    let plugin = folder.start();
    assert_eq!(made(&plugin, json!({})), [json!({})]);
    let changed = GOOD.replace("out:event}", "out:event, mapping: {new: '{{a|1}}'}}");
    folder.write("a.yaml", &changed);
    folder.write("c.yaml", "transformers:\n  - {name: comes, source: c:c, target: d:d}\n");
    fs::remove_file(folder.path("b.yaml")).unwrap();
    assert_eq!(made(&plugin, json!({})), [json!({})], "until it is told");
    let reloaded = plugin.emit("transformer:reload", json!({})).results();
    let expected = json!({"added": 1, "changed": 1, "removed": 1, "kept": 0, "problems": []});
    assert_eq!(reloaded, [expected]);
    assert_eq!(made(&plugin, json!({})), [json!({"new": "1"})]);
    assert_eq!(plugin.emitted_of("b:b"), [] as [Value; 0]);
    assert_eq!(names(&plugin), ["good", "comes"]);
    // Its counts are those of the name, and not of the version.
    let listed = plugin.emit("transformer:list", json!({"source": "in:event"})).results();
    assert_eq!(listed[0]["transformers"][0]["events"], 3);
}

#[test]
fn what_is_wrong_at_a_reload_leaves_what_was_there() {
    let folder = Folder::with("a.yaml", GOOD);
    folder.write("b.yaml", "transformers:\n  - {name: other, source: x:y, target: y:z}\n");
    let plugin = folder.start();
    folder.write("a.yaml", &GOOD.replace("out:event}", "out:event, condition: 'a =='}"));
    folder.write("b.yaml", "transformers: [");
    let reloaded = plugin.emit("transformer:reload", json!({})).results().remove(0);
    assert_eq!((&reloaded["kept"], &reloaded["removed"]), (&json!(2), &json!(0)));
    assert_eq!(problems(&plugin).len(), 2);
    assert_eq!(names(&plugin), ["good", "other"]);
    assert_eq!(made(&plugin, json!({})), [json!({})]);
    folder.write("a.yaml", GOOD);
    folder.write("b.yaml", "transformers: []");
    plugin.emit("transformer:reload", json!({}));
    assert_eq!((names(&plugin), problems(&plugin)), (vec!["good".to_owned()], vec![]));
}

#[test]
fn one_without_a_name_is_known_again_by_its_source() {
    let folder = Folder::with("a.yaml", "- {source: in:event, target: old:event}\n");
    let plugin = folder.start();
    folder.write("a.yaml", "- {source: in:event, target: out:event}\n");
    let reloaded = plugin.emit("transformer:reload", json!({})).results().remove(0);
    assert_eq!((&reloaded["changed"], &reloaded["added"]), (&json!(1), &json!(0)));
    assert_eq!(made(&plugin, json!({})), [json!({})]);
    assert_eq!(plugin.emitted_of("old:event"), [] as [Value; 0]);
    folder.write("a.yaml", "- {source: in:event}\n");
    plugin.emit("transformer:reload", json!({}));
    assert_eq!(made(&plugin, json!({})), [json!({})], "what is wrong leaves what was there");
}

#[test]
fn the_folder_beside_the_plugin_is_read_if_it_is_there() {
    let folder = Folder::with("transformers/a.yaml", GOOD);
    let setup = Harness::setup::<Transformers>().file(folder.path("libksi_transformers.so"));
    let plugin = setup.start().unwrap();
    assert_eq!(names(&plugin), ["good"]);
    let lacks = Harness::setup::<Transformers>().file("/nowhere/libksi_transformers.so");
    assert_eq!(problems(&lacks.start().unwrap()), [] as [&str; 0]);
    // One that is named has to be.
    let named = Harness::with_config::<Transformers>(json!({"paths": ["/nowhere"]})).unwrap();
    assert_eq!(
        problems(&named),
        ["nowhere:null -: it cannot be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn a_configuration_that_means_nothing_is_refused() {
    let error = Harness::with_config::<Transformers>(json!({"values": "all"})).err().unwrap();
    assert_eq!(error.message(), "values is to be \"text\" or \"native\", not \"all\"");
    assert!(Harness::with_config::<Transformers>(json!({"path": "x"})).is_err());
}
