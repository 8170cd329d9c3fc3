//! `pic modules`: which scripts of an app import which, as a tree.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shared::name::ScriptName;

use crate::api;
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::visible_line;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Begin with this script; with all that nobody imports when absent.
    name: Option<ScriptName>,
    /// Show who imports a script rather than what it imports.
    #[arg(long, requires = "name")]
    used_by: bool,
    #[command(flatten)]
    app: AppArg,
}

#[derive(Debug, Deserialize)]
struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    is_whole: bool,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    kind: String,
    version: u32,
}

#[derive(Debug, Deserialize)]
struct Edge {
    from: String,
    to: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    let answer = client.get(&format!("/apps/{}/modules", args.app.as_str()))?;
    if out.is_json() {
        return out.json(&answer);
    }
    let graph: Graph = api::read(&answer)?;
    let forest = Forest::new(&graph, args.used_by);
    let roots = match &args.name {
        Some(name) => {
            if !forest.nodes.contains_key(name.as_str()) {
                // It may be beyond those that are shown, or the server says that there is none.
                client.get(&format!("/apps/{}/scripts/{name}", args.app.as_str()))?;
            }
            vec![name.as_str()]
        }
        None => forest.roots(&graph),
    };
    if roots.is_empty() {
        out.note("The app has no scripts.");
    }
    forest.lines(&roots).iter().try_for_each(|line| out.line(line))?;
    if !graph.is_whole {
        out.warn("the app has more scripts than are shown");
    }
    Ok(())
}

/// The graph as it is walked: from a script to what it imports, or to who imports it.
struct Forest<'a> {
    nodes: BTreeMap<&'a str, &'a Node>,
    below: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Forest<'a> {
    fn new(graph: &'a Graph, is_reversed: bool) -> Self {
        let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for Edge { from, to } in &graph.edges {
            let (above, under) = if is_reversed { (to, from) } else { (from, to) };
            below.entry(above).or_default().insert(under);
        }
        Self { nodes: graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect(), below }
    }

    /// Scripts that nobody imports.
    fn roots(&self, graph: &'a Graph) -> Vec<&'a str> {
        let imported: BTreeSet<&str> = self.below.values().flatten().copied().collect();
        let names = graph.nodes.iter().map(|node| node.name.as_str());
        names.filter(|name| !imported.contains(name)).collect()
    }

    /// A line for each script, with what is below it under it. What was shown already is not shown again: a
    /// graph of many ways would be a tree of very many.
    fn lines(&self, roots: &[&'a str]) -> Vec<String> {
        let (mut lines, mut shown) = (Vec::new(), BTreeSet::new());
        // Where the line begins, what goes before its name, and what before the names below it.
        let mut rest: Vec<_> = roots.iter().rev().map(|name| (*name, String::new(), String::new())).collect();
        while let Some((name, before, indent)) = rest.pop() {
            let below: Vec<&str> = self.below.get(name).into_iter().flatten().copied().collect();
            let is_repeated = !shown.insert(name) && !below.is_empty();
            let again = if is_repeated { " (see above)" } else { "" };
            lines.push(format!("{before}{}{again}", self.label(name)));
            if is_repeated {
                continue;
            }
            for (at, under) in below.iter().enumerate().rev() {
                let (branch, bar) =
                    if at + 1 == below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                rest.push((*under, format!("{indent}{branch}"), format!("{indent}{bar}")));
            }
        }
        lines
    }

    /// `tax@3`, and what is particular about it.
    fn label(&self, name: &str) -> String {
        let name_shown = visible_line(name);
        match self.nodes.get(name) {
            Some(node) if node.kind == "module" => format!("{name_shown}@{} module", node.version),
            Some(node) => format!("{name_shown}@{}", node.version),
            None => format!("{name_shown} (removed; still in the version that imports it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)], endpoints: &[&str], modules: &[&str]) -> Graph {
        let node = |kind: &'static str| {
            move |name: &&str| Node { name: (*name).into(), kind: kind.into(), version: 1 }
        };
        let nodes = endpoints.iter().map(node("endpoint")).chain(modules.iter().map(node("module")));
        let edges = edges.iter().map(|(from, to)| Edge { from: (*from).into(), to: (*to).into() });
        Graph { nodes: nodes.collect(), edges: edges.collect(), is_whole: true }
    }

    #[test]
    fn a_script_has_under_it_what_it_imports_and_nothing_twice() {
        let edges = [("page", "tax"), ("page", "text"), ("shop", "tax"), ("tax", "money"), ("text", "gone")];
        let graph = graph(&edges, &["page", "shop"], &["idle", "money", "tax", "text"]);
        let forest = Forest::new(&graph, false);
        let expected = [
            "page@1",
            "├─ tax@1 module",
            "│  └─ money@1 module",
            "└─ text@1 module",
            "   └─ gone (removed; still in the version that imports it)",
            "shop@1",
            "└─ tax@1 module (see above)",
            "idle@1 module",
        ];
        assert_eq!(forest.lines(&forest.roots(&graph)), expected);
        let users = Forest::new(&graph, true);
        let expected = ["money@1 module", "└─ tax@1 module", "   ├─ page@1", "   └─ shop@1"];
        assert_eq!(users.lines(&["money"]), expected);
    }

    #[test]
    fn a_graph_of_very_many_ways_and_one_that_goes_in_circles_have_an_end() {
        let names: Vec<String> = (0..64).map(|number| format!("m{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pairs =
            names.iter().enumerate().flat_map(|(at, from)| names[at + 1..].iter().map(|to| (*from, *to)));
        let edges: Vec<_> = pairs.collect();
        let graph_of_all = graph(&edges, &[], &names);
        let forest = Forest::new(&graph_of_all, false);
        assert_eq!(forest.lines(&forest.roots(&graph_of_all)).len(), edges.len() + 1);
        let circle = graph(&[("a", "b"), ("b", "a")], &[], &["a", "b"]);
        let lines = Forest::new(&circle, false).lines(&["a"]);
        assert_eq!(lines, ["a@1 module", "└─ b@1 module", "   └─ a@1 module (see above)"]);
    }
}
