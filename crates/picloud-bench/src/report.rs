//! What was measured: printed as it comes, kept for the JSON file, and held against the goals.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

/// Which side of its limit a number has to be on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Debug)]
struct Goal {
    name: String,
    measured: f64,
    bound: Bound,
    unit: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    values: Map<String, Value>,
    goals: Vec<Goal>,
}

impl Report {
    pub(crate) fn line(&self, text: impl Display) {
        let mut stdout = std::io::stdout().lock();
        // A reader that left is no reason to stop measuring: the exit code still tells.
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    pub(crate) fn heading(&self, text: impl Display) {
        self.line(format_args!("\n{text}"));
    }

    /// Keeps a value for the JSON file.
    pub(crate) fn keep(&mut self, name: &str, value: Value) {
        self.values.insert(name.to_owned(), value);
    }

    /// A number that has to be on the right side of a limit.
    pub(crate) fn goal(&mut self, name: impl Into<String>, measured: f64, bound: Bound, unit: &'static str) {
        self.goals.push(Goal { name: name.into(), measured, bound, unit });
    }

    /// Prints all goals; answers whether every one was reached.
    pub(crate) fn verdict(&mut self) -> bool {
        self.heading("Goals");
        self.goals.iter().for_each(|goal| self.line(goal));
        let missed = self.goals.iter().filter(|goal| !goal.is_reached()).count();
        self.heading(match missed {
            0 => format!("all {} goals reached", self.goals.len()),
            _ => format!("{missed} of {} goals missed", self.goals.len()),
        });
        let goals: Vec<Value> = self.goals.iter().map(Goal::to_json).collect();
        self.keep("goals", goals.into());
        missed == 0
    }

    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(&self.values)?;
        text.push('\n');
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Goal {
    /// A number that is none is never good enough.
    fn is_reached(&self) -> bool {
        match self.bound {
            Bound::AtLeast(limit) => self.measured >= limit,
            Bound::AtMost(limit) => self.measured <= limit,
        }
    }

    fn to_json(&self) -> Value {
        let (relation, limit) = match self.bound {
            Bound::AtLeast(limit) => ("at_least", limit),
            Bound::AtMost(limit) => ("at_most", limit),
        };
        json!({
            "name": self.name, "measured": self.measured, relation: limit, "unit": self.unit,
            "reached": self.is_reached(),
        })
    }
}

impl Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.is_reached() { "pass" } else { "MISS" };
        let (relation, limit) = match self.bound {
            Bound::AtLeast(limit) => ("≥", limit),
            Bound::AtMost(limit) => ("≤", limit),
        };
        let Self { name, measured, unit, .. } = self;
        write!(f, "  {word}  {name:<50} {measured:>9.2} {unit:<6} goal {relation} {limit:.2}")
    }
}

/// Tells why nothing could be measured.
pub(crate) fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "picloud-bench: {error:#}");
}

/// The middle of some numbers, or no number when there are none.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(measured: f64, bound: Bound) -> bool {
        Goal { name: String::new(), measured, bound, unit: "" }.is_reached()
    }

    #[test]
    fn a_goal_is_reached_on_its_limit_and_not_beyond() {
        assert!(reached(0.40, Bound::AtLeast(0.40)) && !reached(0.39, Bound::AtLeast(0.40)));
        assert!(reached(30.0, Bound::AtMost(30.0)) && !reached(30.1, Bound::AtMost(30.0)));
    }

    #[test]
    fn what_could_not_be_measured_is_missed() {
        assert!(!reached(f64::NAN, Bound::AtLeast(0.0)) && !reached(f64::NAN, Bound::AtMost(1.0)));
    }

    #[test]
    fn one_missed_goal_is_enough_to_fail() {
        let mut report = Report::default();
        report.goal("good", 1.0, Bound::AtLeast(0.5), "x");
        assert!(report.verdict());
        report.goal("bad", 1.0, Bound::AtMost(0.5), "x");
        assert!(!report.verdict());
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
