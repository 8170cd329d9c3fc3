//! Where a function counts, and how much.
//!
//! Adding to a variable at the end of each basic block costs an interpreter a quarter of its time: its
//! blocks are short. So blocks are gathered into *regions*. A region begins at its *root*: the
//! function's entry, the head of a loop, or a block that is seldom reached; there the function counts,
//! once, what the region is expected to cost. A block belongs to a region if control comes to it only
//! through the root, at most once each time, and with a likelihood of at least [`SELDOM`]. The
//! likelihoods are guesses: each way out of a branch is as likely as the others.
//!
//! A wrong guess is bounded: a block counts for at least `SELDOM` of what it costs each time control
//! goes through its root, so no path costs more than `1 / SELDOM` times what is counted for it.

use std::collections::BTreeMap;

use wasmparser::{FunctionBody, Operator};

use crate::profile::{self, BodyProfile};
use crate::survey::Survey;
use crate::{MeterError, cost};

/// Least likelihood with which a block belongs to the region around it.
const SELDOM: f64 = 1.0 / 16.0;
/// How likely a loop is left by each of its ways out, of which the others are not known yet.
const LOOP_EXIT: f64 = 0.5;

/// From which share on a branch is said to go one way.
const CLEAR: f64 = 0.97;

/// What a function counts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// On entry.
    pub(crate) entry: i64,
    /// After the operator of this number: a loop's head, or where a seldom region begins.
    pub(crate) after: BTreeMap<usize, i64>,
    /// Branches that nearly always go one way: whether they are taken.
    pub(crate) hints: BTreeMap<usize, bool>,
}

/// Control that comes from a region with some likelihood, relative to the region's root.
#[derive(Debug, Clone, Copy)]
struct Flow {
    region: usize,
    likelihood: f64,
}

#[derive(Debug)]
struct Region {
    /// Where control comes from, and how likely; the entry has none.
    from: Option<Flow>,
    is_loop: bool,
    /// After which operator it begins.
    operator: usize,
    units: f64,
}

#[derive(Debug)]
struct Label {
    is_loop: bool,
    /// What may still go to `else`.
    otherwise: Option<Flow>,
    /// Branches to the label's end.
    inflow: Vec<Flow>,
}

struct Planner {
    regions: Vec<Region>,
    labels: Vec<Label>,
    /// None where no control comes.
    now: Option<Flow>,
    hints: BTreeMap<usize, bool>,
}

pub(crate) fn of(
    body: &FunctionBody<'_>,
    survey: &Survey,
    profile: &BodyProfile,
) -> Result<Plan, MeterError> {
    let entry = Region { from: None, is_loop: false, operator: 0, units: 1.0 };
    let mut branches = 0;
    let mut planner = Planner {
        hints: BTreeMap::new(),
        regions: vec![entry],
        labels: vec![Label { is_loop: false, otherwise: None, inflow: Vec::new() }],
        now: Some(Flow { region: 0, likelihood: 1.0 }),
    };
    for (number, operator) in body.get_operators_reader()?.into_iter().enumerate() {
        let operator = operator?;
        let shares = if profile::slots(&operator) > 0 {
            branches += 1;
            profile.shares(branches - 1)
        } else {
            None
        };
        planner.step(number, &operator, survey, shares);
    }
    Ok(planner.finish())
}

impl Planner {
    fn step(&mut self, number: usize, operator: &Operator<'_>, survey: &Survey, shares: Option<Vec<f64>>) {
        let mut units = cost::of(operator);
        if let Operator::Call { function_index } = operator {
            units += survey.units_of_callee(*function_index);
        }
        if let Some(Flow { region, likelihood }) = self.now {
            self.regions[region].units += likelihood * f64::from(units);
        }
        match operator {
            Operator::Block { .. } => self.open(false, None),
            Operator::Loop { .. } => {
                if self.now.is_some() {
                    self.begin(number, true, self.now);
                }
                self.open(true, None);
            }
            Operator::If { .. } => {
                let (otherwise, then) = self.fork(shares.as_deref());
                if let Some(is_taken) = clear(shares.as_deref()) {
                    self.hints.insert(number, is_taken);
                }
                self.open(false, otherwise);
                self.enter(number, then.into_iter().collect());
            }
            Operator::Else => {
                let now = self.now;
                if let Some(label) = self.labels.last_mut() {
                    label.inflow.extend(now);
                    let otherwise = label.otherwise.take();
                    self.enter(number, otherwise.into_iter().collect());
                }
            }
            Operator::End => {
                if let Some(label) = self.labels.pop() {
                    let elsewhere: Vec<_> = label.inflow.into_iter().chain(label.otherwise).collect();
                    if !elsewhere.is_empty() {
                        self.enter(number, elsewhere.into_iter().chain(self.now).collect());
                    }
                }
            }
            Operator::Br { relative_depth } => {
                self.branch(*relative_depth, self.now);
                self.now = None;
            }
            Operator::BrIf { relative_depth } => {
                let (on, away) = self.fork(shares.as_deref());
                // The compiler takes an unlikely branch as word that its target is unlikely, which
                // others may know better.
                if clear(shares.as_deref()) == Some(true) {
                    self.hints.insert(number, true);
                }
                self.branch(*relative_depth, away);
                self.enter(number, on.into_iter().collect());
            }
            Operator::BrTable { targets } => {
                let even = 1.0 / f64::from(targets.len() + 1);
                for (way, target) in targets.targets().flatten().chain([targets.default()]).enumerate() {
                    let part = shares.as_ref().and_then(|shares| shares.get(way).copied());
                    let share = self.share(part.unwrap_or(even));
                    self.branch(target, share);
                }
                self.now = None;
            }
            Operator::Return | Operator::Unreachable => self.now = None,
            _ => {}
        }
    }

    /// Control that goes on, and control that takes the branch.
    fn fork(&self, shares: Option<&[f64]>) -> (Option<Flow>, Option<Flow>) {
        match shares {
            Some([not_taken, taken]) => (self.share(*not_taken), self.share(*taken)),
            _ => (self.share(0.5), self.share(0.5)),
        }
    }

    fn share(&self, part: f64) -> Option<Flow> {
        self.now.map(|flow| Flow { likelihood: flow.likelihood * part, ..flow })
    }

    fn open(&mut self, is_loop: bool, otherwise: Option<Flow>) {
        self.labels.push(Label { is_loop, otherwise, inflow: Vec::new() });
    }

    fn branch(&mut self, depth: u32, flow: Option<Flow>) {
        let label = self.labels.iter_mut().rev().nth(depth as usize);
        if let Some(label) = label.filter(|label| !label.is_loop) {
            label.inflow.extend(flow);
        }
    }

    /// Goes on after operator `number` with the control that meets there: in the innermost region
    /// through whose root all of it came, or if that is seldom, in a new one.
    fn enter(&mut self, number: usize, flows: Vec<Flow>) {
        let met = flows.into_iter().reduce(|a, b| self.meet(a, b));
        self.now = met.map(|flow| Flow { likelihood: flow.likelihood.min(1.0), ..flow });
        if self.now.is_some_and(|flow| flow.likelihood < SELDOM) {
            self.begin(number, false, self.now);
        }
    }

    fn begin(&mut self, operator: usize, is_loop: bool, from: Option<Flow>) {
        self.now = Some(Flow { region: self.regions.len(), likelihood: 1.0 });
        self.regions.push(Region { from, is_loop, operator, units: 0.0 });
    }

    /// Both flows as one of the innermost region around them. A region's number is above that of the
    /// region it lies in.
    fn meet(&self, mut a: Flow, mut b: Flow) -> Flow {
        while a.region != b.region {
            let inner = if a.region > b.region { &mut a } else { &mut b };
            let Region { from: Some(from), is_loop, .. } = self.regions[inner.region] else { break };
            let leaves = if is_loop { inner.likelihood.max(LOOP_EXIT) } else { inner.likelihood };
            *inner = Flow { region: from.region, likelihood: from.likelihood * leaves };
        }
        Flow { region: a.region, likelihood: a.likelihood + b.likelihood }
    }

    fn finish(self) -> Plan {
        let mut plan = Plan { hints: self.hints, ..Plan::default() };
        for (index, region) in self.regions.into_iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, reason = "a function's size fits 52 bits")]
            let units = region.units.ceil() as i64;
            if index == 0 {
                plan.entry = units.max(1);
            } else if region.is_loop {
                // A loop counts in any case, or it could run forever.
                *plan.after.entry(region.operator).or_default() += units.max(1);
            } else if units > 0 {
                *plan.after.entry(region.operator).or_default() += units;
            }
        }
        plan
    }
}

/// Which way a branch nearly always goes.
fn clear(shares: Option<&[f64]>) -> Option<bool> {
    match shares {
        Some([_, taken]) if *taken >= CLEAR => Some(true),
        Some([not_taken, _]) if *not_taken >= CLEAR => Some(false),
        _ => None,
    }
}
