//! How much memory the C library keeps for itself.

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
