//! How much memory a process keeps: the C library's own, and pages of the program.

/// Keeps the allocator to `arenas` arenas and makes it give back freed memory early.
///
/// The default, eight arenas a processor, costs a mostly idle process tens of megabytes.
/// To be called first thing in `main`.
pub fn keep_small(arenas: u8) {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: mallopt only sets parameters of the allocator, under its own lock.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas.into());
            libc::mallopt(libc::M_TRIM_THRESHOLD, 256 * 1024);
            // A fixed value also switches off the growing of both thresholds.
            libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// Gives memory that was freed back to the kernel, where the C library can.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes the allocator's own locks and touches only freed memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of the program and its libraries that nobody has changed: code and constants. They stay in the page
/// cache, which the kernel may use otherwise when it has to, and come back by themselves when they are used.
///
/// A start runs through most of a program once, and the kernel maps what lies around each page that is touched, so most of
/// the file counts as resident ever after. Worth it when a process that was busy comes to rest; what is used after that costs
/// a fault for each 64 KiB.
pub fn forget_program() {
    // Where there is no procfs, things stay as they are.
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, end) in unchanged(&maps) {
        // SAFETY: the range is a private mapping of a file, without the right to write and without a page that differs from
        // the file. Without its pages it reads as before.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED);
        }
    }
}

/// The mappings, from start to end, that are as the file has them and stay so.
fn unchanged(maps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else {
            continue;
        };
        if let Some((start, end)) = first.split_once('-') {
            // Start-end, rights, offset, device, inode, path.
            let file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            let fixed = matches!(second, Some("r--p" | "r-xp"));
            let bounds = usize::from_str_radix(start, 16)
                .ok()
                .zip(usize::from_str_radix(end, 16).ok());
            candidate = bounds.filter(|_| file && fixed);
        } else if first == "Anonymous:" && second == Some("0") {
            found.extend(candidate.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_or_changed_is_kept() {
        let maps = "\
55d0-55e0 r--p 00000000 fe:00 1 /bin/a
Rss:  4 kB
Anonymous:             0 kB
55e0-55f0 r-xp 00001000 fe:00 1 /bin/a
Anonymous:             0 kB
55f0-5600 r--p 00002000 fe:00 1 /bin/a
Anonymous:             8 kB
5600-5610 rw-p 00003000 fe:00 1 /bin/a
Anonymous:             0 kB
5610-5620 r--s 00000000 fe:00 1 /tmp/shared
Anonymous:             0 kB
5620-5630 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(unchanged(maps), [(0x55d0, 0x55e0), (0x55e0, 0x55f0)]);
    }

    #[test]
    fn a_program_without_its_pages_goes_on() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        forget_program();
        assert!(resident() < before);
        assert_eq!(unchanged("").len(), 0);
    }
}
