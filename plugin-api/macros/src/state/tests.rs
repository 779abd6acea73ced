use super::*;

/// Reads all marked methods of a block, as `#[plugin]` does.
fn read_all(block: &str) -> (State, Vec<String>) {
    let mut block: syn::ItemImpl = syn::parse_str(&format!("impl A {{ {block} }}")).unwrap();
    let mut errors = Errors::default();
    let (mut state, mut versions) = (State::default(), Versions::default());
    for item in &mut block.items {
        let syn::ImplItem::Fn(method) = item else { continue };
        let attr = method.attrs.remove(0);
        let kind = match attr.path().is_ident("snapshot") {
            true => Kind::Snapshot,
            false => Kind::Restore,
        };
        state.extend(kind, read(kind, method, &attr, &mut versions, &mut errors));
    }
    versions.check(&mut errors);
    let messages = errors.finish().err().into_iter().flatten();
    (state, messages.map(|error| error.to_string()).collect())
}

fn mistakes(block: &str) -> Vec<String> {
    read_all(block).1
}

fn versions(methods: &[Versioned]) -> Vec<u32> {
    methods.iter().map(|method| method.version).collect()
}

const TAKE: &str = "async fn take(&self, ctx: &Context) -> Result<Saved> {}";
const GIVE: &str = "async fn give(&self, ctx: &Context, saved: Saved) -> Result<()> {}";

#[test]
fn reads_every_version_with_the_highest_first() {
    let (state, found) = read_all(&format!(
        "#[snapshot(version = 2)] {TAKE} #[restore(version = 2)] {GIVE} \
         #[snapshot(version = 10,)] async fn ten(&self, _: &Context) -> Result<Vec<u8>> {{}} \
         #[restore] async fn one(&self, _: &Context, One {{ n }}: One) -> Result<()> {{}} \
         #[restore(version = 10)] async fn ten_again(&self, _: &Context, b: Vec<u8>) -> Result<()> {{}}"
    ));
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(versions(&state.snapshots), [10, 2]);
    assert_eq!(versions(&state.restores), [10, 2, 1]);
    assert_eq!(state.snapshots[0].method, "ten");
    let saved: Type = parse_quote!(Saved);
    assert!(same_tokens(&state.snapshots[1].ty, &saved));
    assert!(same_tokens(&state.restores[1].ty, &saved));
}

#[test]
fn a_snapshot_of_each_version_is_restored() {
    let found = mistakes(&format!("#[snapshot(version = 2)] {TAKE} #[restore] {GIVE}"));
    assert_eq!(
        found,
        ["nothing restores the snapshots that `take` takes, of version 2: add \
          `#[restore(version = 2)] async fn restore(&self, ctx: &Context, saved: S) -> Result<()>`"]
    );
}

#[test]
fn a_plugin_that_restores_takes_snapshots() {
    assert_eq!(
        mistakes(&format!("#[restore(version = 3)] {GIVE}")),
        ["`give` has nothing to restore, because the plugin takes no snapshots: add \
          `#[snapshot(version = 3)] async fn snapshot(&self, ctx: &Context) -> Result<S>`"]
    );
}

#[test]
fn a_version_has_one_method_of_each_kind() {
    let (take, give) = (TAKE.replace("take", "more"), GIVE.replace("give", "again"));
    let found = mistakes(&format!(
        "#[snapshot] {TAKE} #[snapshot(version = 1)] {take} #[restore] {GIVE} #[restore] {give}"
    ));
    assert_eq!(
        found,
        [
            "`take` takes snapshots of version 1 already: give `more` a version of its own, like \
             `#[snapshot(version = 2)]`",
            "`give` restores snapshots of version 1 already: give `again` a version of its own, \
             like `#[restore(version = 2)]`",
        ]
    );
}

#[test]
fn the_version_is_a_number_and_the_only_argument() {
    for arguments in [
        "()",
        "(2)",
        "(\"2\")",
        "(version)",
        "(version = \"2\")",
        "(version = TWO)",
        "(v = 2)",
        "(version = 1, version = 2)",
        "(version = 1, blocking)",
        " = 2",
    ] {
        for (mark, method) in [("snapshot", TAKE), ("restore", GIVE)] {
            let found = mistakes(&format!("#[{mark}{arguments}] {method}"));
            let write = format!(
                "#[{mark}] takes one version, a whole number: write `#[{mark}(version = 2)]`"
            );
            assert_eq!(found, [write], "{arguments}");
        }
    }
    for version in ["0", "-1", "4294967296", "99999999999999999999999"] {
        let found = mistakes(&format!("#[snapshot(version = {version})] {TAKE}"));
        assert_eq!(found, ["a version lies between 1 and 4294967295"], "{version}");
    }
    let highest = "(version = 4_294_967_295)";
    let (state, found) =
        read_all(&format!("#[snapshot{highest}] {TAKE} #[restore{highest}] {GIVE}"));
    assert_eq!((versions(&state.snapshots), found), (vec![u32::MAX], vec![]));
}

#[test]
fn each_mistake_of_a_snapshot_says_what_to_write() {
    let form = "write `async fn take(&self, ctx: &Context) -> Result<S>`";
    for (source, message) in [
        ("fn take(&self, c: &Context) -> Result<S> {}", "#[snapshot] is async"),
        ("async fn take<T>(&self, c: &Context) -> Result<T> {}", "#[snapshot] is not generic"),
        (
            "async fn take(&mut self, c: &Context) -> Result<S> {}",
            "#[snapshot] takes `&self`, because calls run side by side",
        ),
        ("async fn take(c: &Context) -> Result<S> {}", "#[snapshot] takes `&self` first"),
        (
            "async fn take(&self) -> Result<S> {}",
            "#[snapshot] takes one parameter beside `self`, found 0",
        ),
        (
            "async fn take(&self, c: &Context, s: S) -> Result<S> {}",
            "#[snapshot] takes one parameter beside `self`, found 2",
        ),
        (
            "async fn take(&self, c: &Context) -> Result<&S> {}",
            "the snapshot is owned, not borrowed",
        ),
    ] {
        let found = mistakes(&format!("#[snapshot] {source} #[restore] {GIVE}"));
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found[0].starts_with(message), "{source}: {found:?}");
        assert!(found[0].ends_with(form), "{source}: {found:?}");
    }
}

#[test]
fn each_mistake_of_a_restore_says_what_to_write() {
    let form = "write `async fn give(&self, ctx: &Context, saved: S) -> Result<()>`";
    for (source, message) in [
        ("fn give(&self, c: &Context, s: S) -> Result<()> {}", "#[restore] is async"),
        (
            "async fn give(self, c: &Context, s: S) -> Result<()> {}",
            "#[restore] takes `&self`, because calls run side by side",
        ),
        (
            "async fn give(&self, c: &Context) -> Result<()> {}",
            "#[restore] takes two parameters beside `self`, found 1",
        ),
        (
            "async fn give(&self, c: &Context, s: &[u8]) -> Result<()> {}",
            "the snapshot is owned, not borrowed",
        ),
    ] {
        let found = mistakes(&format!("#[snapshot] {TAKE} #[restore] {source}"));
        assert_eq!(found.len(), 1, "{source}: {found:?}");
        assert!(found[0].starts_with(message), "{source}: {found:?}");
        assert!(found[0].ends_with(form), "{source}: {found:?}");
    }
    let gives = GIVE.replace("Result<()>", "Result<u8>");
    assert_eq!(
        mistakes(&format!("#[snapshot] {TAKE} #[restore] {gives}")),
        ["#[restore] gives nothing back: write `-> Result<()>`"]
    );
}

#[test]
fn conditions_and_wrong_results_are_mistakes() {
    let found = mistakes(&format!(
        "#[snapshot] #[cfg(test)] async fn take(&self, c: Context) -> S {{}} #[restore] {GIVE}"
    ));
    let starts = [
        "#[snapshot] is there in every build",
        "the context comes by reference: write `c: &Context`",
        "#[snapshot] returns `Result<S>`, with `Result` from `ksi_plugin_api`",
    ];
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (message, start) in found.iter().zip(starts) {
        assert!(message.starts_with(start), "{message}");
    }
}
