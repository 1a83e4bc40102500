//! The C library's allocator, told to give memory back. Touches nothing that is in use.

/// From this size on an allocation is a mapping of its own, and as much may lie idle at most.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Has everything large go back to the system once it is freed. By itself glibc keeps as much at
/// hand as it has ever freed at once: the kernel's BTF, or the text of a scrape; and each thread that
/// reads the cluster's lists has a heap of its own, most of which then lies idle.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, LARGE),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: sets an option of the allocator; called before there are other threads.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives back what lies idle between what is in use.
pub fn trim() {
    // SAFETY: glibc's own call to give free memory back; it touches nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
