//! Names that scripts give: any text that the database can keep.

use shared::call::CallError;
use shared::limits::COLLECTION_BYTES_MAX;

pub(crate) fn check_collection(name: &str) -> Result<(), CallError> {
    check("the collection's name", name, COLLECTION_BYTES_MAX)
}

pub(super) fn check(what: &str, name: &str, bytes_max: usize) -> Result<(), CallError> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(CallError::invalid(format!("{what} must have 1 to {bytes_max} bytes")));
    }
    // PostgreSQL's text has no U+0000.
    if name.contains('\0') {
        return Err(CallError::invalid(format!("{what} must not contain NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_name_but_what_the_database_cannot_keep() {
        for good in ["a", "..", "a/b", "\u{202e}gpj.exe", " ", "\n", &"\u{10ffff}".repeat(32)] {
            assert_eq!(check_collection(good), Ok(()), "{good:?}");
        }
        for bad in ["", "a\0b", &"x".repeat(COLLECTION_BYTES_MAX + 1), &"\u{10ffff}".repeat(33)] {
            assert!(check_collection(bad).is_err(), "{bad:?}");
        }
    }
}
