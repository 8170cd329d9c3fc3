//! What is handed over late. The simulator found it in one world of some thousands, so it is told here
//! once more.

use shared::id::AppId;
use uuid::Uuid;

use super::super::{Action, Capacity, Core, Event, Fetch, Page, Row, Time};
use super::rows::row;

const NOW_US: i64 = 1_700_000_000_000_000;

/// A dispatcher of one shard, and what it did last.
struct Bench {
    core: Core,
    actions: Vec<Action>,
}

impl Bench {
    fn step(&mut self, event: Event) {
        self.actions.clear();
        self.core.step(Time::from_secs(1), event, &mut self.actions);
    }

    /// Answers the reading that was asked for.
    fn read(&mut self, rows: Vec<Row>) {
        let asked = self.actions.iter().find_map(|action| match action {
            Action::Fetch(Fetch { fetch, .. }) => Some(*fetch),
            _ => None,
        });
        let page = Page { rows, at_us: NOW_US, ..Page::default() };
        self.step(Event::Fetched { fetch: asked.expect("the table is to be read"), page });
    }

    /// What was started, as ids and attempts before.
    fn started(&self) -> Vec<(i64, u16)> {
        let runs = self.actions.iter().filter_map(|action| match action {
            Action::Run { row, .. } => Some((row.id, row.attempts)),
            _ => None,
        });
        runs.collect()
    }
}

#[test]
fn what_is_handed_over_after_a_take_over_is_as_the_table_says() {
    let app = AppId::from_uuid(Uuid::from_u128(1));
    let new = |id| row(id, app, NOW_US, 4, false);
    for is_continued in [false, true] {
        let capacity = Capacity { runs: 8, runs_per_app: 8, rows: 64 };
        let mut bench = Bench { core: Core::new(capacity, 1), actions: Vec::new() };
        let shard = new(1).shard();
        bench.step(Event::Acquired { shard, suspect_max_id: 0, last_id: 9, is_continued });
        bench.read(Vec::new());

        // Event 9 was found in the table and tried while whoever wrote it was held up.
        bench.step(Event::HandedOver(vec![new(9)]));
        assert_eq!(bench.started(), [], "its attempts are not known");
        bench.read(vec![Row { attempts: 1, ..new(9) }]);
        assert_eq!(bench.started(), [(9, 1)]);

        bench.step(Event::HandedOver(vec![new(10)]));
        assert_eq!(bench.started(), [(10, 0)], "nobody can have tried it before");
    }
}
