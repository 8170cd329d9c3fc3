//! Where code is in this process.

use std::ops::Range;
use std::ptr;

use libc::{c_int, c_void, size_t};

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
}
