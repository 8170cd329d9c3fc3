//! This program's own code, on huge pages.

use crate::{jail, sandbox};

/// Moves the program's code to huge pages, but for its two ends, which have parts of others. A request runs through thirty
/// of its small pages, and a processor that has run other processes meanwhile looks up each of them again. Here and not in
/// each worker, as it is a copy, and workers share it with this process.
///
/// Where the kernel has no huge pages for that, or lets no copy become executable, the code stays where it is: it runs
/// there as well.
pub(crate) fn move_to_huge_pages() {
    let moved = jail::executable().first().map_or(Ok(()), sandbox::move_to_huge_pages);
    if let Err(errno) = moved {
        jail::complain(&format_args!("its code stays on small pages: {errno}"));
    }
}

#[cfg(test)]
mod tests {
    use crate::{jail, sandbox};

    #[test]
    fn code_that_was_moved_lies_on_huge_pages_runs_and_cannot_be_written() {
        let code = jail::executable().swap_remove(0);
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
