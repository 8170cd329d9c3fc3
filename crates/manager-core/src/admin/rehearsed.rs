//! What a dry run tells besides its outcome: what the script would have done, and what a run as this one
//! takes of what the app may use.

use schemars::JsonSchema;
use serde::Serialize;
use shared::invocation::Usage;

use crate::data::rehearsal::Would;
use crate::store::budgets::Budget;
use crate::store::usage::Used;

#[derive(Serialize, JsonSchema)]
pub(super) struct Rehearsed {
    #[serde(flatten)]
    would: Would,
    /// Of each budget that the app has, what a run as this one takes.
    budget: Vec<Share>,
}

/// A part of a budget.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Share {
    /// As in the app's budgets.
    name: &'static str,
    limit: i64,
    takes: i64,
    /// Of the limit: 1 is all of it.
    share: f64,
}

impl Rehearsed {
    pub(super) fn new(would: Would, budget: &Budget, usage: &Usage) -> Self {
        let sent = |call| i64::try_from(would.count(call)).unwrap_or(i64::MAX);
        let takes = Used {
            executions: 1,
            // As it is charged: what loading the script takes counts too.
            fuel: i64::try_from(usage.fuel.saturating_add(usage.load_fuel)).unwrap_or(i64::MAX),
            requests: sent("http.send"),
            mails: sent("email.send"),
        };
        Self { budget: shares(budget, takes), would }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is read to two digits")]
fn shares(budget: &Budget, takes: Used) -> Vec<Share> {
    let budgets = [
        ("fuel_per_minute", budget.fuel_per_minute, takes.fuel),
        ("fuel_per_day", budget.fuel_per_day, takes.fuel),
        ("executions_per_day", budget.executions_per_day, takes.executions),
        ("requests_per_day", budget.requests_per_day, takes.requests),
        ("mails_per_day", budget.mails_per_day, takes.mails),
    ];
    let shares = budgets.into_iter().filter_map(|(name, limit, takes)| {
        let limit = limit?;
        Some(Share { name, limit, takes, share: takes as f64 / limit as f64 })
    });
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_budget_that_there_is_has_its_share() {
        let takes = Used { executions: 1, fuel: 50, requests: 3, mails: 0 };
        assert_eq!(shares(&Budget::default(), takes), []);
        let budget = Budget {
            fuel_per_minute: Some(100),
            executions_per_day: Some(4),
            requests_per_day: Some(4),
            ..Budget::default()
        };
        let minute = Share { name: "fuel_per_minute", limit: 100, takes: 50, share: 0.5 };
        let day = Share { name: "executions_per_day", limit: 4, takes: 1, share: 0.25 };
        let requests = Share { name: "requests_per_day", limit: 4, takes: 3, share: 0.75 };
        assert_eq!(shares(&budget, takes), [minute, day, requests]);
    }
}
