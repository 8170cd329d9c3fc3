//! Finds an app's route for a method, a host and a path.
//!
//! Candidates are found through the literal segments that their patterns begin with, so that a lookup
//! does not depend on how many routes the app has elsewhere, and tried in order of precedence.

use std::collections::HashMap;

use shared::http::PairBlock;
use shared::path::PathSegments;
use shared::route::{Route, Segment, Verdict};
use smallvec::SmallVec;

/// The routes of one app, compiled for lookup.
#[derive(Debug, Default)]
pub struct AppMatcher {
    /// In order of precedence.
    routes: Vec<Route>,
    /// Indices into `routes` by the segments before the first parameter or star, each with a slash
    /// before it.
    by_beginning: HashMap<String, Vec<usize>>,
    /// Most such segments of a route: further ones of a request lead nowhere.
    depth: usize,
}

/// A route that answers a request.
#[derive(Debug)]
pub struct Matched<'a> {
    pub route: &'a Route,
    pub params: PairBlock,
    /// What a prefix route's `*` stands for.
    pub rest: String,
}

/// Why no route answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Miss {
    NoRoute,
    /// The path exists for these methods.
    WrongMethod(Vec<String>),
}

impl AppMatcher {
    pub fn new(mut routes: Vec<Route>) -> Self {
        routes.sort_by(Route::precedence);
        let mut matcher = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let literals = route.pattern.segments().iter().map_while(|segment| match segment {
                Segment::Literal(text) => Some(text),
                Segment::Param(_) => None,
            });
            let mut beginning = String::new();
            let mut depth = 0;
            for literal in literals {
                beginning.push('/');
                beginning.push_str(literal);
                depth += 1;
            }
            matcher.depth = matcher.depth.max(depth);
            matcher.by_beginning.entry(beginning).or_default().push(index);
        }
        matcher.routes = routes;
        matcher
    }

    /// The route that answers; `host` is normalised.
    pub fn find(&self, method: &str, host: &str, path: &str) -> Result<Matched<'_>, Miss> {
        let Some(segments) = PathSegments::new(path) else {
            return Err(Miss::NoRoute);
        };
        let mut allowed = Vec::new();
        for index in self.candidates(&segments) {
            let route = &self.routes[index];
            match route.verdict(method, host, &segments) {
                Verdict::OtherHost | Verdict::OtherPath => {}
                Verdict::OtherMethod => allowed.extend(route.methods().map(ToOwned::to_owned)),
                Verdict::Answers(captured) => {
                    return Ok(Matched { route, params: captured.params, rest: captured.rest });
                }
            }
        }
        if allowed.is_empty() {
            return Err(Miss::NoRoute);
        }
        allowed.sort();
        allowed.dedup();
        Err(Miss::WrongMethod(allowed))
    }

    /// Routes that may match, in order of precedence: one look for each segment of the path.
    fn candidates(&self, segments: &PathSegments<'_>) -> SmallVec<[usize; 8]> {
        let mut found: SmallVec<[_; 8]> = self.by_beginning.get("").into_iter().flatten().copied().collect();
        let mut beginning = String::with_capacity(64);
        for segment in segments.decoded().iter().take(self.depth) {
            beginning.push('/');
            beginning.push_str(segment);
            found.extend(self.by_beginning.get(&beginning).into_iter().flatten().copied());
        }
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use shared::http::Pairs;
    use shared::id::{AppId, RouteId, ScriptId, UserId};
    use shared::invocation::ScriptTarget;
    use shared::limits::ScriptLimits;
    use shared::route::{PathPattern, RoutePolicy};
    use shared::script::BundleHash;

    use super::*;

    /// Of method and path, the latter behind a host if it is for one.
    fn matcher(routes: &[(&str, &str)]) -> AppMatcher {
        let target = Arc::new(ScriptTarget {
            app: AppId::new(),
            app_slug: "default".parse().unwrap(),
            owner: UserId::new(),
            script: ScriptId::new(),
            name: "s".parse().unwrap(),
            version: 1,
            bundle: BundleHash([0; 32]),
            limits: ScriptLimits::default(),
            may_invoke: true,
        });
        let route = |(method, pattern): &(&str, &str)| {
            let (host, path) = pattern.split_at(pattern.find('/').unwrap());
            Route {
                id: RouteId::new(),
                method: (*method != "*").then(|| (*method).to_owned()),
                host: (!host.is_empty()).then(|| host.parse().unwrap()),
                pattern: path.parse().unwrap(),
                target: target.clone(),
                is_disabled: false,
                dispatch: shared::route::DispatchMode::Sync,
                body_bytes_max: 1,
                policy: RoutePolicy::default(),
            }
        };
        AppMatcher::new(routes.iter().map(route).collect())
    }

    fn found(matcher: &AppMatcher, method: &str, path: &str) -> String {
        found_on(matcher, method, "blog.localhost", path)
    }

    fn found_on(matcher: &AppMatcher, method: &str, host: &str, path: &str) -> String {
        match matcher.find(method, host, path) {
            Ok(matched) => {
                let params: Vec<_> = Pairs::new(matched.params.as_bytes())
                    .map(|pair| {
                        let (name, value) = pair.unwrap();
                        format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                    })
                    .collect();
                let host = matched.route.host.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{host}{} {} {}", matched.route.pattern, params.join(","), matched.rest)
            }
            Err(Miss::NoRoute) => "no route".to_owned(),
            Err(Miss::WrongMethod(allowed)) => format!("allow {}", allowed.join(",")),
        }
    }

    proptest! {
        /// The matcher finds fast what the rule says: of those that answer, the first in precedence.
        #[test]
        fn every_request_is_answered_by_the_route_that_the_rule_says(
            routes in proptest::collection::vec(
                (r"(GET|PUT|\*)", r"(a\.ex\.com|\*\.ex\.com|\{t\}\.ex\.com|)", r"(/(a|b|:x|:y)){0,3}(/\*)?"), 0..12,
            ),
            method in "(GET|HEAD|PUT)",
            host in r"((a|b|c\.b)\.ex\.com|other)",
            path in r"(/(a|b|c|%61|)){0,4}|x",
        ) {
            let routes: Vec<_> = routes
                .iter()
                .map(|(method, host, path)| (method.as_str(), format!("{host}{}", if path.is_empty() { "/" } else { path })))
                .filter(|(_, pattern)| pattern[pattern.find('/').unwrap()..].parse::<PathPattern>().is_ok())
                .collect();
            let routes: Vec<_> = routes.iter().map(|(method, pattern)| (*method, pattern.as_str())).collect();
            let matcher = matcher(&routes);
            let segments = PathSegments::new(&path);
            let answers = |route: &&Route| {
                segments.as_ref().is_some_and(|path| matches!(route.verdict(&method, &host, path), Verdict::Answers(_)))
            };
            let mut all: Vec<_> = matcher.routes.iter().collect();
            all.sort_by(|a, b| a.precedence(b));
            let expected = all.into_iter().find(answers).map(|route| route.id);
            let found = matcher.find(&method, &host, &path);
            prop_assert_eq!(found.ok().map(|matched| matched.route.id), expected);
        }
    }

    #[test]
    fn the_most_specific_route_answers() {
        let m =
            matcher(&[("*", "/*"), ("*", "/u/:id"), ("*", "/u/me"), ("*", "/u/:id/posts"), ("*", "/u/*")]);
        assert_eq!(found(&m, "GET", "/u/me"), "/u/me  ");
        assert_eq!(found(&m, "GET", "/u/7"), "/u/:id id=7 ");
        assert_eq!(found(&m, "GET", "/u/7/posts"), "/u/:id/posts id=7 ");
        assert_eq!(found(&m, "GET", "/u/7/x/y"), "/u/*  7/x/y");
        assert_eq!(found(&m, "GET", "/"), "/*  ");
        assert_eq!(found(&m, "GET", "/x//y"), "/*  x//y");
    }

    #[test]
    fn a_method_that_no_route_has_is_told_from_a_path_that_none_has() {
        let m = matcher(&[("GET", "/a"), ("PUT", "/a"), ("*", "/b")]);
        assert_eq!(found(&m, "POST", "/a"), "allow GET,HEAD,PUT");
        assert_eq!(found(&m, "HEAD", "/a"), "/a  ");
        assert_eq!(found(&m, "POST", "/b"), "/b  ");
        assert_eq!(found(&m, "POST", "/c"), "no route");
        assert_eq!(found(&m, "GET", "/a/"), "no route");
    }

    #[test]
    fn a_route_for_the_method_falls_through_to_a_less_specific_one() {
        let m = matcher(&[("GET", "/a/b"), ("POST", "/a/:x")]);
        assert_eq!(found(&m, "POST", "/a/b"), "/a/:x x=b ");
    }

    #[test]
    fn a_route_for_the_host_goes_first_and_falls_through_to_those_for_more_hosts() {
        let m = matcher(&[
            ("*", "/page"),
            ("*", "shop.example.com/*"),
            ("*", "*.example.com/page"),
            ("*", "{t}.example.com/only"),
            ("GET", "shop.example.com/form"),
            ("*", "/form"),
        ]);
        let on = |host: &str, path: &str| found_on(&m, "POST", host, path);
        assert_eq!(on("shop.example.com", "/page"), "shop.example.com/*  page");
        assert_eq!(on("a.example.com", "/page"), "*.example.com/page  ");
        assert_eq!(on("a.example.com", "/only"), "{t}.example.com/only  ");
        assert_eq!(on("a.b.example.com", "/only"), "no route");
        assert_eq!(on("blog.localhost", "/page"), "/page  ");
        assert_eq!(on("shop.example.com", "/form"), "shop.example.com/*  form");
        assert_eq!(on("a.example.com", "/form"), "/form  ");
        assert_eq!(on("blog.localhost", "/only"), "no route");
    }

    #[test]
    fn parameters_are_decoded_once_and_keep_their_slashes() {
        let m = matcher(&[("*", "/f/:name"), ("*", "/é")]);
        assert_eq!(found(&m, "GET", "/f/a%2Fb%2525"), "/f/:name name=a/b%25 ");
        assert_eq!(found(&m, "GET", "/f/%zz%"), "/f/:name name=%zz% ");
        assert_eq!(found(&m, "GET", "/f/%+5"), "/f/:name name=%+5 ");
        assert_eq!(found(&m, "GET", "/%C3%A9"), "/é  ");
        assert_eq!(found(&m, "GET", "/f/"), "no route");
    }
}
