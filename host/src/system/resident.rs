//! How much memory the process holds, for the question how much of it a replacement leaves behind.

/// What of the process is in memory, in KiB, if the system tells.
pub(crate) fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_process_holds_memory_and_not_all_of_it() {
        let kib = super::resident_kib().unwrap();
        assert!((512..1 << 30).contains(&kib), "{kib}");
    }
}
