//! Which of the wanted routes are there already, which are to be made, and which cannot be.

use shared::route::PathPattern;

use super::Args;
use crate::api::{Page, Route};
use crate::commands::routes::wire_method;
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct RoutePlan {
    pub(super) present: Vec<PathPattern>,
    pub(super) missing: Vec<PathPattern>,
    method: Option<String>,
    /// A route to the script from before, for the example.
    older: Option<(Option<String>, PathPattern)>,
}

impl RoutePlan {
    /// Fails when a wanted route leads to another script.
    pub(super) fn new(routes: Page<Route>, args: &Args, script: &str) -> Result<Self, Failure> {
        let method = wire_method(args.method.as_deref());
        let (mut present, mut missing) = (Vec::new(), Vec::new());
        for wanted in &args.routes {
            match routes.items.iter().find(|route| is_same(route, method, wanted)) {
                Some(route) if route.script == script => present.push(wanted.clone()),
                Some(route) => return Err(taken(route)),
                None => missing.push(wanted.clone()),
            }
        }
        let mut own = routes.items.iter().filter(|route| route.script == script);
        let older =
            own.find_map(|route| Some((wire_method(route.method.as_deref()), route.path.parse().ok()?)));
        let older = older.map(|(method, pattern)| (method.map(ToOwned::to_owned), pattern));
        Ok(Self { present, missing, method: method.map(ToOwned::to_owned), older })
    }

    /// A route to show: one that was asked for, else one that was there.
    pub(super) fn example(&self) -> Option<(Option<&str>, &PathPattern)> {
        let asked = self.missing.first().or_else(|| self.present.first());
        let older = self.older.as_ref().map(|(method, pattern)| (method.as_deref(), pattern));
        asked.map(|pattern| (self.method.as_deref(), pattern)).or(older)
    }
}

/// True when the two would answer the same requests.
fn is_same(route: &Route, method: Option<&str>, wanted: &PathPattern) -> bool {
    let is_any_host = matches!(route.host.as_deref(), None | Some("" | "*" | "any"));
    let shape = route.path.parse().map(|pattern: PathPattern| pattern.shape());
    is_any_host && wire_method(route.method.as_deref()) == method && shape == Ok(wanted.shape())
}

fn taken(route: &Route) -> Failure {
    let (method, path, script, id) = (route.method(), &route.path, &route.script, &route.id);
    Failure::RouteTaken(format!("{method} {path} leads to script {script} already (route {id})"))
}
