//! This program's own code: where it is, and that it lies on huge pages.

use std::ops::Range;
use std::ptr;

use libc::{c_int, c_void, size_t};

use crate::{jail, sandbox};

/// Moves the program's code to huge pages, but for its two ends, which have parts of others. A request runs through thirty
/// of its small pages, and a processor that has run other processes meanwhile looks up each of them again. Here and not in
/// each worker, as it is a copy, and workers share it with this process.
///
/// Where the kernel has no huge pages for that, or lets no copy become executable, the code stays where it is: it runs
/// there as well.
pub(crate) fn move_to_huge_pages() {
    let moved = executable().first().map_or(Ok(()), sandbox::move_to_huge_pages);
    if let Err(errno) = moved {
        jail::complain(&format_args!("its code stays on small pages: {errno}"));
    }
}

/// The executable segments of what is loaded: the program's first, then those of libraries and of the vDSO.
pub(crate) fn executable() -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    // SAFETY: the callback has the type that is asked for, and gets back the pointer to `ranges`, which nobody else uses
    // until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(collect), ptr::from_mut(&mut ranges).cast()) };
    ranges
}

/// Adds the executable segments of one loaded object.
unsafe extern "C" fn collect(info: *mut libc::dl_phdr_info, _: size_t, ranges: *mut c_void) -> c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid description, and the pointer it was given, which is that of `executable`'s
    // vector.
    let (info, ranges) = unsafe { (&*info, &mut *ranges.cast::<Vec<Range<usize>>>()) };
    // SAFETY: the description says where the object's headers are and how many.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers.iter().filter(|header| is_code(header)) {
        // Addresses have the width of a pointer on every target this is built for.
        if let (Ok(start), Ok(len)) = (usize::try_from(header.p_vaddr), usize::try_from(header.p_memsz)) {
            let start = usize::try_from(info.dlpi_addr).unwrap_or(0) + start;
            ranges.push(start..start + len);
        }
    }
    0
}

const fn is_code(header: &libc::Elf64_Phdr) -> bool {
    header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_is_this_programs() {
        let here = is_code as *const () as usize;
        assert!(executable()[0].contains(&here), "{here:#x}");
    }

    #[test]
    fn code_that_was_moved_lies_on_huge_pages_runs_and_cannot_be_written() {
        let code = executable().swap_remove(0);
        if sandbox::move_to_huge_pages(&code).is_err() {
            eprintln!("SKIPPED: this kernel makes no huge pages of code");
            return;
        }
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_moved = false;
        let mut huge_kib = 0;
        for line in maps.lines() {
            if let Some((start, rest)) = line.split_once('-') {
                let start = usize::from_str_radix(start, 16);
                is_moved =
                    start.is_ok_and(|start| code.contains(&start)) && rest.contains(" r-xp 00000000 00:00 ");
                assert!(!rest.contains(" rwx"), "{line}");
            } else if let Some(kib) = line.strip_prefix("AnonHugePages:").filter(|_| is_moved) {
                huge_kib += kib.trim_end_matches("kB").trim().parse::<usize>().unwrap();
            }
        }
        // All but its ends, each of less than a huge page.
        let least = (code.len() >> 10).saturating_sub(4096);
        assert!(huge_kib >= least, "{huge_kib} KiB of {}", code.len() >> 10);
    }
}
