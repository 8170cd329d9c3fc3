//! Addresses that end in a verb, such as `/apps/blog:transfer`. The router takes whole segments
//! only and cannot tell the name from the verb, so the verb becomes a segment of its own before
//! the router sees it: `/apps/blog/~transfer`.

use std::collections::BTreeSet;

use http::Uri;
use http::uri::PathAndQuery;

/// The verbs that addresses may end in.
#[derive(Debug, Clone)]
pub(super) struct Verbs(BTreeSet<&'static str>);

impl Verbs {
    /// Those of these paths.
    pub(super) fn of(paths: impl Iterator<Item = &'static str>) -> Self {
        Self(paths.filter_map(|path| path.rsplit_once(':')).map(|(_, verb)| verb).collect())
    }

    /// The address as the router knows it; nothing when it has no verb. Only known verbs behind the
    /// last slash count, so that names may have colons.
    pub(super) fn split(&self, uri: &Uri) -> Option<Uri> {
        let (head, verb) = uri.path().rsplit_once(':').filter(|(_, verb)| self.0.contains(verb))?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{head}/~{verb}{query}")).ok()?);
        Uri::from_parts(parts).ok()
    }
}

/// A path as its caller wrote it, from what the router saw.
pub(super) fn joined(path: &str) -> String {
    match path.rsplit_once("/~") {
        Some((head, verb)) if !verb.contains('/') => format!("{head}:{verb}"),
        _ => path.to_owned(),
    }
}

/// A path of the table as the router knows it.
pub(super) fn routed(path: &str) -> String {
    path.replace(':', "/~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_verbs_at_the_end_become_segments() {
        let verbs = Verbs::of(["/apps/{app}:transfer", "/apps/{app}/logs:tail", "/apps"].into_iter());
        let split = |text: &str| verbs.split(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(split("/apps/blog:transfer?x=1").as_deref(), Some("/apps/blog/~transfer?x=1"));
        assert_eq!(split("http://h/apps/b/logs:tail").as_deref(), Some("http://h/apps/b/logs/~tail"));
        for other in ["/apps/blog", "/kv/user:1", "/apps/blog:nope", "/a:transfer/b", "/apps/blog:transfer/"]
        {
            assert_eq!(split(other), None, "{other}");
        }
        assert_eq!(routed("/apps/{app}:transfer"), "/apps/{app}/~transfer");
        assert_eq!(joined("/apps/blog/~transfer"), "/apps/blog:transfer");
        assert_eq!(joined("/apps/blog"), "/apps/blog");
    }
}
