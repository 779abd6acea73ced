//! Real folders. Each wait is for a change that must come; that none came is seen from what comes
//! next.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::folder::candidates;
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);
/// More often than in earnest: most tests wait for one.
const RESCAN: Duration = Duration::from_millis(200);

/// A watch over `above/plugins`, and over `zz-fence`, a folder that does not exist.
struct WatchedPlace {
    dir: tempfile::TempDir,
    watch: FolderWatch,
    changes: mpsc::Receiver<Change>,
}

impl WatchedPlace {
    fn new() -> WatchedPlace {
        WatchedPlace::with(|folder| fs::create_dir(folder).unwrap())
    }

    fn with(prepare: impl FnOnce(&Path)) -> WatchedPlace {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("above")).unwrap();
        prepare(&dir.path().join("above/plugins"));
        let folders = vec![dir.path().join("above/plugins"), dir.path().join("zz-fence")];
        let (watch, changes) = FolderWatch::start_with(folders, RESCAN).unwrap();
        WatchedPlace { dir, watch, changes }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("above/plugins")
    }

    /// Path of a plugin file, on systems with any extension.
    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name).with_extension(std::env::consts::DLL_EXTENSION)
    }

    fn rename_into(&self, path: &Path, content: &str) {
        let hidden = path.with_file_name(".next");
        fs::write(&hidden, content).unwrap();
        fs::rename(hidden, path).unwrap();
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(PATIENCE, self.changes.recv()).await.unwrap().unwrap()
    }

    async fn settled(&mut self, path: &Path) {
        assert_eq!(self.next().await, Change::Settled(path.to_owned()));
    }

    async fn removed(&mut self, path: &Path) {
        assert_eq!(self.next().await, Change::Removed(path.to_owned()));
    }

    /// Asserts that the folder that is there now is notified: found by rescans, each change would
    /// take the time of standing still at least. On a busy machine, so may some of them in any
    /// case.
    async fn notified(&mut self, path: &Path) {
        let mut least = Duration::MAX;
        for _ in 0..100 {
            let started = Instant::now();
            self.rename_into(path, "content");
            self.settled(path).await;
            least = least.min(started.elapsed());
        }
        assert!(least < settling::STILL, "{least:?}");
    }

    /// Asserts that nothing more comes: a file is noticed by a rescan of everything, and whatever
    /// was still to come by then settles with it, and before it in the order of paths.
    async fn silent(&mut self) {
        let fence = self.dir.path().join("zz-fence");
        fs::create_dir(&fence).unwrap();
        let path = fence.join("fence").with_extension(std::env::consts::DLL_EXTENSION);
        symlink(self.dir.path(), &path).unwrap();
        self.settled(&path).await;
    }
}

#[tokio::test]
async fn renaming_over_a_file_is_one_change() {
    let mut place = WatchedPlace::new();
    let path = place.path("a");
    place.rename_into(&path, "one");
    place.settled(&path).await;
    place.rename_into(&path, "two");
    place.settled(&path).await;
    place.silent().await;
}

#[tokio::test]
async fn writing_in_place_is_one_change_after_the_close() {
    let mut place = WatchedPlace::new();
    let path = place.path("a");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"first half").unwrap();
    let other = place.path("b");
    place.rename_into(&other, "other");
    place.settled(&other).await;
    file.write_all(b"second half").unwrap();
    drop(file);
    place.settled(&path).await;
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"!").unwrap();
    place.settled(&path).await;
    place.silent().await;
}

#[tokio::test]
async fn equal_lengths_within_one_tick_of_the_clock_are_told_apart() {
    let mut place = WatchedPlace::new();
    let path = place.path("a");
    for round in 0..100 {
        fs::write(&path, format!("{round:03}")).unwrap();
        place.settled(&path).await;
    }
}

#[tokio::test]
async fn what_is_not_written_through_settles_when_it_stands_still() {
    let mut place = WatchedPlace::new();
    let original = place.dir.path().join("built");
    fs::write(&original, "content").unwrap();
    fs::hard_link(&original, place.path("a")).unwrap();
    place.settled(&place.path("a")).await;
    File::open(place.path("a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    place.settled(&place.path("a")).await;
    place.silent().await;
}

#[tokio::test]
async fn a_removed_file_is_told_of_once() {
    let mut place = WatchedPlace::new();
    let path = place.path("a");
    place.rename_into(&path, "one");
    place.settled(&path).await;
    fs::remove_file(&path).unwrap();
    place.removed(&path).await;
    place.silent().await;
}

#[tokio::test]
async fn a_file_renamed_to_another_name_is_two_changes() {
    let mut place = WatchedPlace::new();
    let (old, new) = (place.path("a"), place.path("b"));
    place.rename_into(&old, "one");
    place.settled(&old).await;
    fs::rename(&old, &new).unwrap();
    place.settled(&new).await;
    place.removed(&old).await;
    place.silent().await;
}

#[tokio::test]
async fn only_visible_libraries_are_candidates() {
    let mut place = WatchedPlace::new();
    let (library, hidden) = (place.path("b"), place.path(".b"));
    for name in ["b.txt", "b", ".b.so.part"] {
        fs::write(place.folder().join(name), "no plugin").unwrap();
    }
    fs::write(&hidden, "no plugin").unwrap();
    fs::write(place.path("a"), "first by name").unwrap();
    place.settled(&place.path("a")).await;
    fs::write(&library, "library").unwrap();
    place.settled(&library).await;
    assert_eq!(candidates(&place.folder()).unwrap(), [place.path("a"), library]);
    assert_eq!(candidates(&place.path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    place.silent().await;
}

#[tokio::test]
async fn what_was_there_at_the_start_is_found_and_not_a_change() {
    let mut place = WatchedPlace::with(|folder| {
        fs::create_dir(folder).unwrap();
        for name in ["b", "a", ".c"] {
            let path = folder.join(name).with_extension(std::env::consts::DLL_EXTENSION);
            fs::write(path, "content").unwrap();
        }
    });
    assert_eq!(place.watch.found(), [place.path("a"), place.path("b")]);
    fs::remove_file(place.path("a")).unwrap();
    place.removed(&place.path("a")).await;
    place.silent().await;
}

#[tokio::test]
async fn a_folder_may_come_late_go_away_and_come_back() {
    let mut place = WatchedPlace::with(|_| {});
    assert!(place.watch.found().is_empty());
    for content in ["one", "two"] {
        fs::create_dir(place.folder()).unwrap();
        place.rename_into(&place.path("a"), content);
        place.settled(&place.path("a")).await;
        place.notified(&place.path("b")).await;
        fs::remove_dir_all(place.folder()).unwrap();
        place.removed(&place.path("a")).await;
        place.removed(&place.path("b")).await;
    }
    place.silent().await;
}

#[tokio::test]
async fn a_folder_may_be_replaced() {
    let mut place = WatchedPlace::new();
    for name in ["a", "b", "c"] {
        place.rename_into(&place.path(name), "one");
        place.settled(&place.path(name)).await;
    }
    let next = place.dir.path().join("next");
    fs::create_dir(&next).unwrap();
    fs::hard_link(place.path("b"), next.join(place.path("b").file_name().unwrap())).unwrap();
    fs::write(next.join(place.path("c").file_name().unwrap()), "another").unwrap();
    fs::rename(place.folder(), place.dir.path().join("previous")).unwrap();
    fs::rename(&next, place.folder()).unwrap();
    let mut changes = [place.next().await, place.next().await];
    changes.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(changes, [Change::Removed(place.path("a")), Change::Settled(place.path("c"))]);
    place.notified(&place.path("d")).await;
    place.silent().await;
}

#[tokio::test]
async fn a_folder_above_may_be_replaced() {
    let mut place = WatchedPlace::new();
    place.rename_into(&place.path("a"), "one");
    place.settled(&place.path("a")).await;
    let above = place.dir.path().join("above");
    fs::rename(&above, place.dir.path().join("previous")).unwrap();
    fs::create_dir_all(place.folder()).unwrap();
    place.removed(&place.path("a")).await;
    place.notified(&place.path("a")).await;
    place.silent().await;
}

#[tokio::test]
async fn a_slow_receiver_misses_no_final_state() {
    const FILES: usize = 2000;
    let mut place = WatchedPlace::new();
    let path = |n: usize| place.path(&format!("p{n:04}"));
    for n in 0..FILES {
        place.rename_into(&path(n), "one");
    }
    for n in (0..FILES).step_by(3) {
        fs::remove_file(path(n)).unwrap();
    }
    for n in (0..FILES).step_by(5) {
        place.rename_into(&path(n), "two");
    }
    let expected: HashMap<PathBuf, bool> =
        (0..FILES).map(|n| (path(n), n % 3 != 0 || n % 5 == 0)).collect();
    let mut last = HashMap::new();
    // A file that was removed before anybody looked at it is no change.
    let open = |last: &HashMap<PathBuf, bool>| {
        expected.iter().any(|(path, there)| last.get(path).copied().unwrap_or(false) != *there)
    };
    while open(&last) {
        match place.next().await {
            Change::Settled(path) => last.insert(path, true),
            Change::Removed(path) => last.insert(path, false),
        };
    }
    place.silent().await;
}

#[tokio::test]
async fn links_stand_for_what_they_lead_to() {
    let mut place = WatchedPlace::new();
    let (link, target) = (place.path("a"), place.dir.path().join("built"));
    symlink(&target, &link).unwrap();
    place.settled(&link).await;
    fs::write(&target, "content").unwrap();
    place.settled(&link).await;
    symlink(place.path("b"), place.path("b")).unwrap();
    place.settled(&place.path("b")).await;
    fs::remove_file(&target).unwrap();
    place.settled(&link).await;
    place.silent().await;
}

#[tokio::test]
async fn a_file_is_sent_again_on_demand() {
    let mut place = WatchedPlace::new();
    let path = place.path("a");
    place.rename_into(&path, "one");
    place.settled(&path).await;
    place.watch.settle_again(path.clone());
    place.settled(&path).await;
    place.silent().await;
}

#[tokio::test]
async fn dropping_the_watch_ends_the_changes() {
    let WatchedPlace { dir, watch, mut changes } = WatchedPlace::new();
    drop(watch);
    let end = tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap();
    assert_eq!(end, None);
    drop(dir);
}

#[test]
fn without_a_runtime_there_is_no_watch() {
    let error = FolderWatch::start(vec!["plugins".into()]).unwrap_err();
    assert!(matches!(error, WatchError::NoRuntime(_)), "{error}");
}
