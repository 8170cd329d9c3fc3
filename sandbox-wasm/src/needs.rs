//! Which members of `ctx` a bundle can read, found in its text when it is loaded.
//!
//! Building all of `ctx` costs more than most scripts do with it. The answer errs on the side of
//! more: whatever is not plainly `ctx.member` or `ctx.request.member` counts as everything, and so
//! does a mention in a comment. A script cannot tell the difference, because it cannot ask for a
//! member without naming it: `eval` is disabled.

use std::collections::BTreeSet;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    everything: bool,
    whole_request: bool,
    members: BTreeSet<String>,
    request_members: BTreeSet<String>,
}

impl Needs {
    pub(crate) fn of<'a>(sources: impl Iterator<Item = &'a str>) -> Self {
        let mut needs = Self::default();
        for source in sources {
            needs.scan(source);
        }
        needs
    }

    pub(crate) fn member(&self, name: &str) -> bool {
        self.everything || self.members.contains(name)
    }

    pub(crate) fn request(&self) -> bool {
        self.everything || self.whole_request || !self.request_members.is_empty()
    }

    pub(crate) fn request_member(&self, name: &str) -> bool {
        self.everything || self.whole_request || self.request_members.contains(name)
    }

    fn scan(&mut self, source: &str) {
        for (at, _) in source.match_indices("ctx") {
            let before = source[..at].chars().next_back();
            let after = &source[at + "ctx".len()..];
            if before.is_some_and(is_ident) || after.starts_with(is_ident) {
                continue;
            }
            match member(after) {
                Some(("request", rest)) => match member(rest) {
                    Some((name, _)) => {
                        self.request_members.insert(name.to_owned());
                    }
                    None => self.whole_request = true,
                },
                Some((name, _)) => {
                    self.members.insert(name.to_owned());
                }
                None => self.everything = true,
            }
        }
    }
}

/// The member read by what follows a value: `.name` or `?.name`, but not a call of a method, which
/// sees the whole value.
fn member(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let text = text.strip_prefix('?').unwrap_or(text);
    let text = text.strip_prefix('.')?.trim_start();
    let end = text.find(|c| !is_ident(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_method = rest.trim_start().starts_with(['(', '!']);
    if name.is_empty() || is_method { None } else { Some((name, rest)) }
}

fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(source: &str) -> Needs {
        Needs::of([source].into_iter())
    }

    #[test]
    fn plain_members_are_all_that_is_built() {
        let needs = needs("ctx.app + ctx . request\n.params.name + my_ctx.limits + ctxs.version");
        assert!(needs.member("app") && needs.request_member("params"));
        assert!(!needs.member("limits") && !needs.member("version") && !needs.request_member("body"));
    }

    #[test]
    fn anything_else_counts_as_everything() {
        for source in
            ["let c = ctx;", "ctx[\"app\"]", "\"event\" in ctx", "ctx.keys()", "f(ctx)", "ctx./**/app", "ctx"]
        {
            assert!(needs(source).everything, "{source}");
        }
        for source in
            ["ctx.request", "ctx.request[k]", "ctx.request.keys()", "ctx?.request ?? 1", "f(ctx.request)"]
        {
            let needs = needs(source);
            assert!(needs.request_member("headers") && !needs.everything, "{source}");
        }
    }

    #[test]
    fn a_script_without_ctx_needs_nothing() {
        assert_eq!(needs("40 + 2"), Needs::default());
    }
}
