use super::*;

/// A folder with the files that the kernel has in a group.
fn fake(controllers: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in
        [("cgroup.controllers", controllers), ("cgroup.procs", ""), (SUBTREE, ""), (KILL, "")]
    {
        fs::write(folder.path().join(file), text).unwrap();
    }
    folder
}

fn bounds() -> Bounds {
    Bounds { memory: Some(Bytes(64 << 20)), processes: Some(8) }
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn a_group_has_the_bounds_that_were_asked_for_and_takes_and_ends_processes() {
    let folder = fake("cpu memory pids\n");
    let delegation = Delegation::at(folder.path()).unwrap();
    let group = delegation.group("greeter", &bounds()).unwrap();
    assert_eq!(read(folder.path(), SUBTREE), "+pids", "the last one written");
    assert!(group.unbounded().is_empty());
    let below = folder.path().join("ksi-greeter");
    assert_eq!(read(&below, "memory.max"), "67108864");
    assert_eq!(read(&below, "pids.max"), "8");
    assert_eq!(read(&below, "memory.oom.group"), "1");
    assert_eq!(read(&below, "memory.swap.max"), "0");
    group.add(4711).unwrap();
    assert_eq!(read(&below, "cgroup.procs"), "4711");
    group.kill().unwrap();
    assert_eq!(read(&below, "cgroup.kill"), "1");
    fs::write(below.join("memory.current"), "4096\n").unwrap();
    fs::write(below.join("memory.events"), "low 0\noom 2\noom_kill 3\n").unwrap();
    assert_eq!(group.memory().unwrap(), Bytes(4096));
    assert_eq!(group.out_of_memory().unwrap(), 3);
    fs::write(below.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    assert!(!group.is_empty_within(Duration::ZERO).unwrap());
    fs::write(below.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    assert!(group.is_empty_within(Duration::ZERO).unwrap());
}

#[test]
fn a_group_without_bounds_moves_nobody_and_has_none_of_one_that_was_left_over() {
    let folder = fake("memory pids\n");
    fs::write(folder.path().join("cgroup.procs"), "12\n").unwrap();
    let below = folder.path().join("ksi-a");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("memory.max"), "4096").unwrap();
    let group = Delegation::at(folder.path()).unwrap().group("a", &Bounds::default()).unwrap();
    assert_eq!(read(&below, "memory.max"), "max");
    assert!(!below.join("pids.max").exists() && group.unbounded().is_empty());
    assert_eq!(read(folder.path(), SUBTREE), "");
    assert!(!folder.path().join(OWN).exists());
}

#[test]
fn what_cannot_be_bounded_is_told_with_the_controller_that_it_takes() {
    for (controllers, lacking) in [
        ("cpu memory\n", &["`processes` cannot be bounded", "`pids`", "only cpu memory"][..]),
        ("\n", &["`memory` cannot be bounded", "`memory`", "no controllers"]),
    ] {
        let folder = fake(controllers);
        let group = Delegation::at(folder.path()).unwrap().group("a", &bounds()).unwrap();
        let told = group.unbounded().iter().map(CgroupError::to_string).collect::<String>();
        assert!(lacking.iter().all(|words| told.contains(words)), "{told}");
        assert!(told.contains("Delegate=yes"), "{told}");
    }
}

#[test]
fn groups_that_were_left_over_are_removed_and_others_are_not() {
    let folder = fake("\n");
    for name in ["ksi-gone", "ksi-used", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("ksi-used/process"), "").unwrap();
    Delegation::at(folder.path()).unwrap();
    let is_there = |name: &str| folder.path().join(name).exists();
    assert!(!is_there("ksi-gone") && is_there("ksi-used") && is_there("other"));
}

#[test]
fn processes_that_are_in_the_way_are_moved_below() {
    let folder = fake("memory pids\n");
    fs::write(folder.path().join("cgroup.procs"), "12\n").unwrap();
    Delegation::at(folder.path()).unwrap().group("a", &bounds()).unwrap();
    assert_eq!(read(&folder.path().join(OWN), "cgroup.procs"), "12");
}

#[test]
fn a_tree_that_is_not_delegated_is_told_with_what_was_found_and_what_to_do() {
    let folder = fake("memory pids\n");
    fs::remove_file(folder.path().join(KILL)).unwrap();
    let error = Delegation::at(folder.path()).unwrap_err().to_string();
    assert!(error.contains("the root of all") && error.contains("Delegate=yes"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = Delegation::at(empty.path()).unwrap_err().to_string();
    assert!(error.contains("no cgroup"), "{error}");
    let folder = fake("memory pids\n");
    fs::remove_file(folder.path().join(SUBTREE)).unwrap();
    let error = Delegation::at(folder.path()).unwrap_err().to_string();
    assert!(error.contains("may not write"), "{error}");
}

#[test]
fn it_is_found_by_what_the_process_is_told_of_itself() {
    let folder = fake("memory pids\n");
    let below = folder.path().join("ksi.service");
    fs::create_dir(&below).unwrap();
    let (mounts, groups) = (folder.path().join("mounts"), folder.path().join("groups"));
    fs::write(&groups, "4:memory:/\n0::/ksi.service\n").unwrap();
    let root = folder.path().display();
    fs::write(&mounts, format!("1 2 0:3 / {root} rw shared:1 - cgroup2 cgroup2 rw\n")).unwrap();
    // What is above it is this user's, who is not everybody's.
    let found = Delegation::found_by(&mounts, &groups, false).unwrap();
    assert_eq!(found.folder, folder.path());
    let error = Delegation::found_by(&mounts, &groups, true).unwrap_err().to_string();
    assert!(error.contains("not marked as delegated"), "{error}");
    // A part of the tree is mounted, at a place with a space.
    let spaced = folder.path().join("a b");
    fs::rename(&below, folder.path().join("moved")).unwrap();
    fs::create_dir(&spaced).unwrap();
    for file in ["cgroup.controllers", "cgroup.procs", SUBTREE, KILL] {
        fs::copy(folder.path().join(file), spaced.join(file)).unwrap();
    }
    fs::write(&groups, "0::/all/ksi.service\n").unwrap();
    let line = format!("1 2 0:3 /all/ksi.service {root}/a\\040b rw - cgroup2 x rw\n");
    fs::write(&mounts, &line).unwrap();
    let found = Delegation::found_by(&mounts, &groups, false).unwrap();
    assert_eq!(found.folder, spaced.join(""));
    fs::write(&groups, "0::/elsewhere\n").unwrap();
    let error = Delegation::found_by(&mounts, &groups, false).unwrap_err().to_string();
    assert!(error.contains("no /elsewhere there"), "{error}");
    fs::write(&mounts, format!("1 2 0:3 / {root} rw shared:1 - cgroup2 cgroup2 rw\n")).unwrap();
    // The tree of a container.
    fs::write(&groups, "0::/\n").unwrap();
    let found = Delegation::found_by(&mounts, &groups, true).unwrap();
    assert_eq!(found.folder, folder.path().join(""));
    // It is not there.
    fs::write(&mounts, format!("1 2 0:3 / {root}/ksi.service rw - cgroup2 x rw\n")).unwrap();
    let error = Delegation::found_by(&mounts, &groups, true).unwrap_err().to_string();
    assert!(error.contains("ksi.service") && error.contains("no cgroup"), "{error}");
    fs::write(&mounts, "1 2 0:3 / /x rw - cgroup x rw\n").unwrap();
    let error = Delegation::found_by(&mounts, &groups, false).unwrap_err().to_string();
    assert!(error.contains("no cgroups of version 2"), "{error}");
}

#[test]
fn a_name_leads_nowhere_else() {
    let folder = fake("memory pids\n");
    let delegation = Delegation::at(folder.path()).unwrap();
    for name in ["", "..", "a/b", "memory.max", OWN, &"x".repeat(129)] {
        let error = delegation.group(name, &bounds()).unwrap_err();
        assert!(matches!(error, CgroupError::Name { .. }), "{name}: {error}");
    }
}
