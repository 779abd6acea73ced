use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::*;

const LIMIT: u64 = 1 << 20;

fn own_dir(parent: &Path) -> PrivateDir {
    let places = Places { named: Some(parent.to_owned()), runtime: None, temporary: "/".into() };
    PrivateDir::create(places).unwrap()
}

struct CopyFolders {
    folder: tempfile::TempDir,
    own: PrivateDir,
}

impl CopyFolders {
    fn new() -> CopyFolders {
        let folder = tempfile::tempdir().unwrap();
        let own = own_dir(folder.path());
        CopyFolders { folder, own }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn copy(&self, path: &Path, label: &str) -> Result<(PrivateCopy, Content), CopyError> {
        self.own.copy(&SourceFile::open(path, LIMIT)?, &Original::of(label.as_ref()))
    }

    fn copies(&self) -> usize {
        fs::read_dir(self.own.path()).unwrap().count() - 1
    }

    fn refusal(&self, path: &Path) -> CopyError {
        let error = self.copy(path, "x").unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(self.copies(), 0);
        error
    }
}

#[test]
fn a_copy_has_the_content_and_an_inode_of_its_own() {
    let place = CopyFolders::new();
    let source = place.file("a.so", b"content");
    let (copy, bytes) = place.copy(&source, "hello").unwrap();
    assert_eq!(&*bytes, b"content");
    assert_eq!(fs::read(copy.path()).unwrap(), b"content");
    assert_eq!(copy.hash().to_string(), blake3::hash(b"content").to_hex().as_str());
    assert_eq!(
        copy.path().file_name().unwrap(),
        format!("hello-1.{}", std::env::consts::DLL_EXTENSION).as_str()
    );

    let (again, _) = place.copy(&source, "hello").unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let inodes = [inode(&source), inode(copy.path()), inode(again.path())];
    assert!(inodes[0] != inodes[1] && inodes[1] != inodes[2] && inodes[0] != inodes[2]);

    fs::write(&source, b"other").unwrap();
    assert_eq!(fs::read(copy.path()).unwrap(), b"content");
    drop(copy);
    assert_eq!(place.copies(), 1);
    drop(again);
    assert_eq!(place.copies(), 0);
}

#[test]
fn a_label_stays_one_plain_file_name() {
    let place = CopyFolders::new();
    let source = place.file("a.so", b"content");
    for label in ["../../up", "", "ä b\n\0", &"long".repeat(100)] {
        let (copy, _) = place.copy(&source, label).unwrap();
        assert_eq!(copy.path().parent().unwrap(), place.own.path());
    }
}

#[test]
fn links_are_followed() {
    let place = CopyFolders::new();
    let target = place.file("library", b"content");
    let link = place.folder.path().join("a.so");
    symlink(&target, &link).unwrap();
    assert_eq!(place.copy(&link, "a").unwrap().1[..], *b"content");
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let place = CopyFolders::new();
    let at = |name: &str| place.folder.path().join(name);

    assert!(matches!(place.refusal(&at("gone.so")), CopyError::Vanished { .. }));

    symlink("nowhere", at("broken.so")).unwrap();
    let broken = place.refusal(&at("broken.so"));
    assert!(
        matches!(&broken, CopyError::BrokenLink { target, .. } if target == Path::new("nowhere"))
    );

    symlink("loop.so", at("loop.so")).unwrap();
    assert!(matches!(place.refusal(&at("loop.so")), CopyError::LinkLoop { .. }));

    fs::create_dir(at("dir.so")).unwrap();
    let dir = place.refusal(&at("dir.so"));
    assert!(matches!(dir, CopyError::NotRegular { found: "a directory", .. }));

    let _socket = std::os::unix::net::UnixListener::bind(at("socket.so")).unwrap();
    let socket = place.refusal(&at("socket.so"));
    assert!(matches!(socket, CopyError::NotRegular { found: "a socket", .. }));

    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe.so"), rustix::fs::Mode::RWXU).unwrap();
    let pipe = place.refusal(&at("pipe.so"));
    assert!(matches!(pipe, CopyError::NotRegular { found: "a named pipe", .. }));

    let device = place.refusal(Path::new("/dev/null"));
    assert!(matches!(device, CopyError::NotRegular { found: "a device", .. }));

    let denied = CopyError::open(&at("a.so"), std::io::ErrorKind::PermissionDenied.into());
    assert!(matches!(denied, CopyError::PermissionDenied { .. }));
}

#[test]
fn a_huge_file_is_refused_unread() {
    let place = CopyFolders::new();
    let path = place.folder.path().join("huge.so");
    fs::File::create(&path).unwrap().set_len(LIMIT + 1).unwrap();
    let error = place.refusal(&path);
    assert!(matches!(error, CopyError::TooLarge { found, limit: LIMIT, .. } if found == LIMIT + 1));
}

#[test]
fn a_source_that_never_rests_is_copied_whole_or_not_at_all() {
    let place = CopyFolders::new();
    let generation = |n: u8| vec![n; 20_000 + usize::from(n) * 100];
    let source = place.file("a.so", &generation(0));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut whole, mut changed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (1..=255).cycle() {
                fs::write(place.folder.path().join("next"), generation(n)).unwrap();
                fs::rename(place.folder.path().join("next"), &source).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let started = std::time::Instant::now();
        while (whole < 50 || changed < 5) && started.elapsed() < Duration::from_secs(20) {
            match place.copy(&source, "a") {
                Ok((copy, bytes)) => {
                    assert!(*bytes == *generation(bytes[0]));
                    assert_eq!(copy.hash(), blake3::hash(&bytes));
                    whole += 1;
                }
                Err(CopyError::ChangedWhileCopying { .. }) => changed += 1,
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(whole >= 50 && changed >= 5, "{whole} whole, {changed} changed");
}

#[test]
fn the_directory_is_private_and_goes_with_its_owner() {
    let place = CopyFolders::new();
    let path = place.own.path().to_owned();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o700);
    let source = place.file("a.so", b"content");
    let (copy, _) = place.copy(&source, "a").unwrap();
    drop(place.own);
    assert!(!path.exists());
    drop(copy);
}

#[test]
fn only_directories_of_dead_hosts_are_removed() {
    let place = CopyFolders::new();
    let parent = place.folder.path();
    let own = place.own.path();
    let name = own.file_name().unwrap().to_str().unwrap();
    let prefix = &name[..name.rfind('-').unwrap() + 1];
    let old = SystemTime::now() - Duration::from_secs(3600);
    let dir = |name: &str, files: &[&str]| {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        files.iter().for_each(|file| fs::write(path.join(file), b"x").unwrap());
        fs::File::open(&path).unwrap().set_modified(old).unwrap();
        path
    };
    let crashed = dir(&format!("{prefix}crashed"), &["ksi-host.lock", "a-1.so"]);
    let never_started = dir(&format!("{prefix}start"), &["ksi-host.lock.new"]);
    let somebody_s = dir(&format!("{prefix}notes"), &["todo.txt"]);
    let other_name = dir("ksi-other", &["ksi-host.lock"]);
    let target = dir("target", &["ksi-host.lock"]);
    let link = parent.join(format!("{prefix}link"));
    symlink(&target, &link).unwrap();
    let starting = parent.join(format!("{prefix}starting"));
    fs::create_dir(&starting).unwrap();

    let second = own_dir(parent);
    assert_ne!(second.path(), place.own.path());
    for gone in [&crashed, &never_started] {
        assert!(!gone.exists(), "{}", gone.display());
    }
    for kept in
        [&place.own.path(), &second.path(), &somebody_s, &other_name, &target, &link, &starting]
    {
        assert!(kept.exists(), "{}", kept.display());
    }
}

#[test]
fn holes_are_not_filled() {
    let place = CopyFolders::new();
    let path = place.folder.path().join("sparse.so");
    let file = fs::File::create(&path).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 400_000).unwrap();
    file.set_len(LIMIT).unwrap();
    let (copy, bytes) = place.copy(&path, "a").unwrap();
    assert_eq!(bytes.len() as u64, LIMIT);
    assert_eq!((&bytes[..5], &bytes[400_000..400_006]), (&b"begin"[..], &b"middle"[..]));
    assert!(fs::read(&path).unwrap() == *bytes);
    assert_eq!(copy.hash(), blake3::hash(&bytes));
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    assert!(blocks(copy.path()) <= blocks(&path) + 8, "{}", blocks(copy.path()));
}

#[test]
fn a_directory_that_a_cleaner_removed_is_made_anew_and_what_was_copied_before_is_held() {
    let place = CopyFolders::new();
    let source = place.file("a.so", b"content");
    let (copy, bytes) = place.copy(&source, "a").unwrap();
    let before = place.own.path();
    fs::remove_dir_all(&before).unwrap();
    assert!(matches!(copy.check_in_place(), Err(CopyError::Cleaned { .. })));

    let (again, _) = place.copy(&source, "a").unwrap();
    assert_ne!(place.own.path(), before);
    again.check_in_place().unwrap();
    let (held, its_bytes) = place.own.copy_again(&copy, LIMIT).unwrap();
    assert_eq!((&*its_bytes, held.hash()), (&*bytes, copy.hash()));
    assert_eq!(fs::read(held.path()).unwrap(), b"content");
    assert_ne!(held.path().file_name(), copy.path().file_name(), "a name comes once");
}

/// A copy that has brought a file along.
fn bringing(place: &CopyFolders, content: &[u8]) -> PrivateCopy {
    let (mut copy, _) = place.copy(&place.file("a.so", b"content"), "a").unwrap();
    place.own.give_folder(&mut copy).unwrap();
    let source = SourceFile::open(&place.file("own", content), LIMIT).unwrap();
    let brought = place.own.bring(&copy, &source, "lib/own".as_ref(), |_| None).unwrap();
    assert_eq!(*brought, *content);
    copy
}

fn beside(copy: &PrivateCopy) -> PathBuf {
    copy.path().with_file_name("lib/own")
}

#[test]
fn what_copies_bring_along_is_each_ones_own_and_goes_with_it() {
    let place = CopyFolders::new();
    let (first, second) = (bringing(&place, b"first"), bringing(&place, b"second"));
    first.check_in_place().unwrap();
    assert_eq!(fs::read(beside(&first)).unwrap(), b"first");
    assert_eq!(fs::read(beside(&second)).unwrap(), b"second");
    assert_ne!(first.hash_of_all(), second.hash_of_all());
    drop(first);
    assert_eq!(place.copies(), 1);
    drop(second);
    assert_eq!(place.copies(), 0);
}

#[test]
fn a_copy_of_a_copy_has_the_same_beside_it_also_when_a_cleaner_has_removed_that() {
    let place = CopyFolders::new();
    let copy = bringing(&place, b"own");
    let (again, _) = place.own.copy_again(&copy, LIMIT).unwrap();
    let inode = |copy| fs::metadata(beside(copy)).unwrap().ino();
    assert_eq!(inode(&copy), inode(&again), "one file with two names");
    assert_eq!(again.hash_of_all(), copy.hash_of_all());
    drop(again);
    fs::remove_dir_all(place.own.path()).unwrap();
    let (again, _) = place.own.copy_again(&copy, LIMIT).unwrap();
    assert_eq!(fs::read(beside(&again)).unwrap(), b"own");
    drop((copy, again));
    assert_eq!(place.copies(), 0);
}

#[test]
fn what_is_brought_along_while_the_host_stops_leaves_nothing_behind() {
    let place = CopyFolders::new();
    let source = place.file("a.so", b"content");
    let own = SourceFile::open(&source, LIMIT).unwrap();
    let copied = |place: &CopyFolders| place.copy(&source, "a").unwrap().0;
    let (mut early, mut late, path) = (copied(&place), copied(&place), place.own.path());
    place.own.give_folder(&mut early).unwrap();
    place.own.close();
    let brought = place.own.bring(&early, &own, "lib/own".as_ref(), |_| None);
    assert!(matches!(brought, Err(CopyError::Closed)));
    assert!(matches!(place.own.give_folder(&mut late), Err(CopyError::Closed)));
    drop((early, late));
    assert!(!path.exists());
}

#[test]
fn a_directory_that_somebody_else_puts_in_its_place_is_not_used() {
    let place = CopyFolders::new();
    let source = place.file("a.so", b"content");
    let (copy, _) = place.copy(&source, "a").unwrap();
    let path = place.own.path();
    // Moved, not removed: a freed inode number could be given to the next folder.
    fs::rename(&path, place.folder.path().join("moved")).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(copy.path(), b"evil").unwrap();
    assert!(matches!(copy.check_in_place(), Err(CopyError::Cleaned { .. })));
    let other = copy.path().to_owned();
    drop(copy);
    assert!(other.exists(), "it is not this host's to remove");
    let (again, _) = place.copy(&source, "a").unwrap();
    assert_ne!(again.path().parent().unwrap(), path);
    drop((again, place.own));
    assert!(path.exists());
}

#[test]
fn what_is_in_use_looks_used_and_its_lock_file_comes_again() {
    let place = CopyFolders::new();
    let (copy, _) = place.copy(&place.file("a.so", b"content"), "a").unwrap();
    let old = SystemTime::now() - Duration::from_secs(90 * 86_400);
    let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
    let lock = place.own.path().join("ksi-host.lock");
    fs::remove_file(&lock).unwrap();
    let brings = bringing(&place, b"own");
    let all = [
        place.own.path(),
        copy.path().to_owned(),
        brings.path().to_owned(),
        beside(&brings).parent().unwrap().to_owned(),
        beside(&brings),
    ];
    for path in &all {
        fs::File::open(path).unwrap().set_times(times).unwrap();
    }
    place.own.freshen();
    for path in &all {
        let found = fs::metadata(path).unwrap();
        assert!(found.accessed().unwrap() > old && found.modified().unwrap() > old);
    }
    assert!(fs::File::open(&lock).unwrap().try_lock().is_err(), "it is locked again");
}

#[test]
fn closing_leaves_nothing_behind_whoever_is_still_copying() {
    let place = CopyFolders::new();
    let source = place.file("a.so", &vec![7; 300_000]);
    let copied = std::sync::atomic::AtomicU32::new(0);
    let path = place.own.path();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    match place.copy(&source, "a") {
                        Err(CopyError::Closed) => return,
                        // Not loaded from any more.
                        Err(CopyError::Cleaned { .. }) => (),
                        copy => drop(copy.unwrap()),
                    }
                    copied.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while copied.load(Ordering::Relaxed) < 20 {
            std::thread::yield_now();
        }
        place.own.close();
        assert!(!path.exists());
    });
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 1, "the source alone is there");
}
