use std::{env, process::Command, ptr};

use super::*;

#[test]
fn a_variable_that_was_put_from_a_place_is_found_there_by_name_until_it_is_gone() {
    let place = c"KSI_TEST_PUT=1".to_owned();
    let start = place.as_ptr() as usize;
    let memory = start..start + place.as_bytes_with_nul().len();
    assert_eq!(look(&memory), []);
    // SAFETY: the string outlives its place in the environment. Tests of this process read no other
    // variable.
    unsafe { libc::putenv(place.as_ptr().cast_mut()) };
    let found = look(&memory);
    // SAFETY: as above.
    unsafe { libc::unsetenv(c"KSI_TEST_PUT".as_ptr()) };
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("`KSI_TEST_PUT`"), "{}", found[0]);
    assert_eq!(look(&memory), []);
}

#[test]
fn what_is_not_there_any_more_is_read_as_nothing() {
    let peek = peek::Peek::new().unwrap();
    let words = [7_usize, 8, 0, 9];
    assert_eq!(peek.words(words.as_ptr() as usize, 100), Some(vec![7, 8]));
    let many: Vec<usize> = (1..10_000).chain([0]).collect();
    assert_eq!(peek.words(many.as_ptr() as usize, 1 << 20).unwrap(), many[..9_999]);
    assert_eq!(peek.words(many.as_ptr() as usize, 100), None);
    let unreadable = unreadable();
    assert_eq!((peek.words(unreadable, 100), peek.text(unreadable, 100)), (None, Vec::new()));
    let long = [b"a".repeat(9_000), b"=b\0c".to_vec()].concat();
    let text = |most| peek.text(long.as_ptr() as usize, most);
    assert_eq!((text(9_000).len(), text(10_000).len(), &text(9)[..]), (9_000, 9_002, &long[..9]));
}

/// A page that nobody can read, and that no other thread gets.
fn unreadable() -> usize {
    // SAFETY: a mapping of its own.
    let page = unsafe {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, kind, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    page as usize
}

const CHILD: &str = "KSI_TEST_ENVIRONMENT_FREED";

#[test]
#[ignore = "the process of the next test"]
fn a_process_whose_environment_is_freed() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    unsafe extern "C" {
        static mut environ: usize;
    }
    // SAFETY: nothing else of this process looks at its environment until it is put back.
    let found = unsafe {
        let before = environ;
        environ = unreadable();
        let found = look(&(0..0));
        environ = before;
        found
    };
    assert!(found[0].to_string().contains("changes all the time"), "{found:?}");
    println!("was read");
}

#[test]
fn a_list_that_somebody_frees_meanwhile_is_no_crash() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::a_process_whose_environment_is_freed");
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let ran = child.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("was read"), "{}: {said}", ran.status);
}
