//! What happens in the simulated world, one thing after another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use shared::id::{AppId, UserId};
use uuid::Uuid;

use super::super::super::super::verdict::Reason;
use super::super::STRIKES_MAX;
use super::super::{Action, Capacity, Core, Event, Fetch, Page, Row, Settlement, Time, Verdict};
use super::checks::Checks;
use super::database::{Database, Stored};
use super::rows::row;

const APPS: u128 = 4;
/// So little that everything that is bounded is full now and then.
const CAPACITY: Capacity = Capacity { runs: 8, runs_per_app: 4, rows: 64 };
/// Until then things happen and go wrong; afterwards what is left must come to an end.
const TROUBLE: Time = Time::from_secs(20);
/// A clock that went back by an hour makes rows wait for an hour.
const PATIENCE: Time = Time::from_secs(3 * 3_600);

#[derive(Debug)]
enum Happening {
    Write,
    Commit { stored: Box<Stored> },
    Hand { node: usize, life: u64, rows: Vec<Row> },
    Poll { node: usize, life: u64 },
    Fetch { node: usize, life: u64, wanted: Fetch },
    Fetched { node: usize, life: u64, fetch: u64, page: Option<Page> },
    Settle { node: usize, life: u64, batch: u64, owner: u64, rows: Vec<(i64, AppId, Settlement)> },
    Settled { node: usize, life: u64, batch: u64, missed: Option<Vec<i64>> },
    End { node: usize, life: u64, run: u64 },
    Acquire { node: usize, life: u64 },
    Own { node: usize, life: u64, owners: HashMap<AppId, UserId> },
    LoseLocks { node: usize },
    HearOfLoss { node: usize, life: u64, shards: Vec<u8> },
    Crash { node: usize },
    Stop { node: usize },
    Start { node: usize },
    RestartDatabase,
    StepClock(i64),
}

struct Node {
    core: Core,
    born: Time,
    life: u64,
    owner: u64,
    previous: Option<u64>,
    owned: Vec<u8>,
    /// What it was told it owns.
    believes: HashSet<u8>,
    /// It lost its locks and does not know yet.
    is_deaf: bool,
    is_stopping: bool,
    running: BTreeMap<u64, Row>,
    polls_at: Option<Time>,
}

pub(super) struct World {
    now: Time,
    happenings: BinaryHeap<Reverse<(Time, u64)>>,
    by_number: HashMap<u64, Happening>,
    next_number: u64,
    chance: u64,
    database: Database,
    nodes: [Option<Node>; 2],
    next_life: u64,
    next_owner: u64,
    next_id: i64,
    checks: Checks,
    has_faults: bool,
    is_two_nodes: bool,
    /// No row has a key, and all scripts succeed. In other worlds keys and retries make the table be read so
    /// often that what one reading left out is found by the next.
    is_plain: bool,
    /// Something is found only by the scan that looks for what was forgotten.
    is_patient: bool,
    last_settled: Time,
    steps: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            happenings: BinaryHeap::new(),
            by_number: HashMap::new(),
            next_number: 0,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            database: Database::new(),
            nodes: [None, None],
            next_life: 0,
            next_owner: 0,
            next_id: 0,
            checks: Checks::default(),
            has_faults: !seed.is_multiple_of(4),
            is_two_nodes: seed % 3 == 1,
            is_plain: seed.is_multiple_of(5),
            is_patient: false,
            last_settled: Time::ZERO,
            steps: 0,
        };
        for _ in 0..10 {
            world.random();
        }
        world.plan();
        world
    }

    fn plan(&mut self) {
        self.at(Time::ZERO, Happening::Start { node: 0 });
        if self.is_two_nodes {
            self.at(Time::from_millis(5), Happening::Start { node: 1 });
        }
        let writes = 50 + self.below(250);
        // Some worlds have everything at once, which fills what is bounded.
        let is_burst = self.one_in(3);
        for _ in 0..writes {
            let at = if is_burst { Time::from_secs(1) } else { self.some(Time::ZERO, TROUBLE) };
            self.at(at, Happening::Write);
        }
        if !self.has_faults {
            return;
        }
        for _ in 0..self.below(4) {
            let (at, node) = (self.some(Time::from_secs(1), TROUBLE), self.a_node());
            self.at(at, Happening::Crash { node });
        }
        for _ in 0..self.below(3) {
            let (at, node) = (self.some(Time::from_secs(1), TROUBLE), self.a_node());
            self.at(at, Happening::Stop { node });
        }
        // Each is a take-over, and what is known on one node may be old on the other.
        let losses = if self.is_two_nodes { 16 } else { 4 };
        for _ in 0..self.below(losses) {
            let (at, node) = (self.some(Time::from_secs(1), TROUBLE), self.a_node());
            self.at(at, Happening::LoseLocks { node });
        }
        for _ in 0..self.below(2) {
            let at = self.some(Time::from_secs(1), TROUBLE);
            self.at(at, Happening::RestartDatabase);
        }
        if self.one_in(4) {
            let at = self.some(Time::from_secs(1), TROUBLE);
            let hour = 3_600_000_000;
            let step = if self.one_in(2) { hour } else { -hour };
            self.at(at, Happening::StepClock(step));
        }
    }

    pub(super) fn run(mut self) -> Result<u64, String> {
        while let Some(Reverse((at, number))) = self.happenings.pop() {
            if at > PATIENCE {
                break;
            }
            self.now = at;
            self.steps += 1;
            let happening = self.by_number.remove(&number).expect("it is planned once");
            self.happen(happening);
            if self.now > TROUBLE && self.database.rows.is_empty() && self.is_quiet() {
                break;
            }
        }
        // The scan for what was forgotten comes after 300 s: until then all must be done without it.
        if !self.is_patient && self.last_settled > TROUBLE + Duration::from_secs(200) {
            return Err(format!("it took until {:?}", self.last_settled));
        }
        self.checks.finish(&self.database, self.has_faults)?;
        for node in self.nodes.iter().flatten() {
            // What is another's by now may stay here until it comes back.
            if node.owned.len() == 16 && node.core.load() != (0, 0) {
                return Err(format!("something is left in memory: {:?}", node.core.load()));
            }
        }
        Ok(self.steps)
    }

    fn is_quiet(&self) -> bool {
        let is_planned = self.by_number.values().any(|happening| {
            matches!(happening, Happening::Start { .. } | Happening::Commit { .. } | Happening::Write)
        });
        let owners = self.nodes.iter().flatten().filter(|node| node.owned.len() == 16);
        !is_planned && owners.into_iter().all(|node| node.core.is_idle() && node.core.load().0 == 0)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Write => self.write(),
            Happening::Commit { stored } => self.commit(*stored),
            Happening::Hand { node, life, rows } => {
                self.is_patient |= self.is_two_nodes && self.alive(node, life).is_none();
                self.tell(node, life, Event::HandedOver(rows));
            }
            Happening::Poll { node, life } => {
                if let Some(alive) = self.alive(node, life) {
                    alive.polls_at = None;
                    self.tell(node, life, Event::Tick);
                }
            }
            Happening::Fetch { node, life, wanted } => {
                let page = (!self.goes_wrong(20)).then(|| self.database.fetch(self.now, &wanted));
                let fetch = wanted.fetch;
                self.soon(20, Happening::Fetched { node, life, fetch, page });
            }
            Happening::Fetched { node, life, fetch, page } => self.tell(
                node,
                life,
                match page {
                    Some(page) => Event::Fetched { fetch, page },
                    None => Event::FetchFailed { fetch },
                },
            ),
            Happening::Settle { node, life, batch, owner, rows } => {
                self.settle(node, life, batch, owner, &rows);
            }
            Happening::Settled { node, life, batch, missed } => self.tell(
                node,
                life,
                match missed {
                    Some(missed) => Event::Settled { batch, missed },
                    None => Event::SettleFailed { batch },
                },
            ),
            Happening::End { node, life, run } => self.end(node, life, run),
            Happening::Acquire { node, life } => self.acquire(node, life),
            Happening::Own { node, life, owners } => self.tell(node, life, Event::Owners(owners)),
            Happening::LoseLocks { node } => self.lose_locks(node),
            Happening::HearOfLoss { node, life, shards } => {
                if let Some(alive) = self.alive(node, life) {
                    alive.is_deaf = false;
                    alive.believes.retain(|shard| !shards.contains(shard));
                }
                for shard in shards {
                    self.tell(node, life, Event::Lost { shard });
                }
                self.soon(50, Happening::Acquire { node, life });
            }
            Happening::Crash { node } => self.crash(node),
            Happening::Stop { node } => {
                if let Some(alive) = &mut self.nodes[node] {
                    alive.is_stopping = true;
                    let life = alive.life;
                    self.tell(node, life, Event::Stop);
                }
            }
            Happening::Start { node } => self.start(node),
            Happening::RestartDatabase => self.restart_database(),
            Happening::StepClock(us) => {
                self.is_patient = true;
                self.database.clock_us += us;
            }
        }
    }

    fn write(&mut self) {
        let app = AppId::from_uuid(Uuid::from_u128(1 + u128::from(self.random()) % APPS));
        self.next_id += 1;
        let id = self.next_id;
        let key = (!self.is_plain && self.one_in(4)).then(|| (self.random() % 3) as u8);
        let is_handler = self.one_in(10);
        let is_poison = self.has_faults && self.one_in(100);
        if is_poison {
            self.checks.poison.insert(id, 0);
        }
        let max_attempts = 1 + u16::try_from(self.below(4)).unwrap();
        let mut row = row(id, app, self.database.now_us(self.now), max_attempts, is_handler);
        row.is_ordered = key.is_some();
        let stored = Box::new(Stored { due_us: row.due_us, row, key });
        // The id of a key's row is drawn under its lock, so it is committed before the next is drawn.
        if key.is_some() {
            self.commit(*stored);
        } else {
            let most = if self.one_in(20) { 4_000 } else { 5 };
            self.soon(most, Happening::Commit { stored });
        }
    }

    fn commit(&mut self, stored: Stored) {
        self.checks.written(stored.row.id, self.now);
        let row = stored.row.clone();
        self.database.rows.insert(row.id, stored);
        let node = self.a_node();
        let Some(life) = self.nodes[node].as_ref().map(|node| node.life) else {
            // Its node ended with the commit, and told no other.
            self.is_patient |= self.is_two_nodes;
            return;
        };
        if self.one_in(15) {
            // Whoever wrote it went away before it could say so.
            let event = Event::DueAfter(Duration::from_secs(1));
            return self.tell(node, life, event);
        }
        let rows = vec![row];
        if self.one_in(10) {
            // Long after somebody found it in the table, and perhaps tried it.
            self.soon(2_000, Happening::Hand { node, life, rows: rows.clone() });
        }
        let most = if self.one_in(10) { 300 } else { 1 };
        self.soon(most, Happening::Hand { node, life, rows });
    }

    fn settle(&mut self, node: usize, life: u64, batch: u64, owner: u64, rows: &[(i64, AppId, Settlement)]) {
        if self.goes_wrong(20) {
            return self.soon(20, Happening::Settled { node, life, batch, missed: None });
        }
        let (mut missed, mut is_held) = (Vec::new(), false);
        for (id, _, settlement) in rows {
            let row = self.database.rows.get(id).map(|stored| stored.row.clone());
            match self.database.settle(self.now, owner, *id, settlement) {
                true => {
                    self.last_settled = self.now;
                    self.checks.settled(&row.expect("it was there"), settlement);
                    is_held |= matches!(settlement, Settlement::Hold { .. });
                }
                false => missed.push(*id),
            }
        }
        // It may be done although nobody learns of it.
        let missed = (!self.goes_wrong(30)).then_some(missed);
        self.soon(10, Happening::Settled { node, life, batch, missed });
        if is_held {
            // Whoever resumes a trigger says so.
            for other in 0..2 {
                if let Some(life) = self.nodes[other].as_ref().map(|node| node.life) {
                    self.tell(other, life, Event::DueAfter(Duration::from_secs(2)));
                }
            }
            self.is_patient |= self.is_two_nodes;
        }
    }

    fn end(&mut self, node: usize, life: u64, run: u64) {
        let verdict = match self.below(if self.is_plain { 60 } else { 100 }) {
            0..60 => Verdict::Done,
            60..80 => Verdict::Failed { error: "no".into(), killed_worker: false },
            80..83 => Verdict::Failed { error: "gone".into(), killed_worker: true },
            83..86 => Verdict::Fatal { reason: Reason::Fatal, error: "never".into() },
            86..97 => Verdict::PutOff(Duration::from_millis(100)),
            97..99 => Verdict::PutOff(Duration::from_secs(5)),
            _ => Verdict::Held,
        };
        let Some(alive) = self.alive(node, life) else { return };
        let Some(row) = alive.running.remove(&run) else { return };
        self.checks.ended(&row, &verdict);
        self.tell(node, life, Event::Ended { run, verdict });
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].is_some() {
            return;
        }
        self.next_life += 1;
        let life = self.next_life;
        let core = Core::new(CAPACITY, self.random());
        self.nodes[node] = Some(Node {
            core,
            born: self.now,
            life,
            owner: 0,
            previous: None,
            owned: Vec::new(),
            believes: HashSet::new(),
            is_deaf: false,
            is_stopping: false,
            running: BTreeMap::new(),
            polls_at: None,
        });
        // Two people have two apps each, which is not known at once.
        let owners = (1..=APPS).map(|app| {
            let owner = UserId::from_uuid(Uuid::from_u128(app % 2));
            (AppId::from_uuid(Uuid::from_u128(app)), owner)
        });
        let owners = owners.collect();
        self.at(self.now + Duration::from_millis(300), Happening::Own { node, life, owners });
        self.soon(50, Happening::Acquire { node, life });
    }

    fn acquire(&mut self, node: usize, life: u64) {
        self.next_owner += 1;
        let fresh = self.next_owner;
        let Some(alive) = self.alive(node, life) else { return };
        if alive.is_deaf {
            return;
        }
        if alive.owned.is_empty() {
            alive.owner = fresh;
        }
        let (owner, previous) = (alive.owner, alive.previous);
        let acquired = self.database.acquire(node, owner, previous);
        let count = acquired.len();
        if let Some(alive) = self.alive(node, life) {
            alive.owned.extend(acquired.iter().map(|(shard, ..)| *shard));
            alive.believes.extend(acquired.iter().map(|(shard, ..)| *shard));
        }
        for (_, event) in acquired {
            self.tell(node, life, event);
        }
        let is_complete = self.nodes[node].as_ref().is_some_and(|node| node.owned.len() == 16);
        if !is_complete || count == 0 {
            let most = if self.now > TROUBLE { 60_000 } else { 500 };
            self.soon(most, Happening::Acquire { node, life });
        }
    }

    fn lose_locks(&mut self, node: usize) {
        self.database.unlock(node);
        let Some(alive) = self.nodes[node].as_mut().filter(|alive| !alive.is_deaf) else { return };
        let shards = std::mem::take(&mut alive.owned);
        alive.previous = Some(alive.owner);
        alive.is_deaf = true;
        let life = alive.life;
        // The other may be there before this one knows.
        self.soon(400, Happening::HearOfLoss { node, life, shards });
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node] = None;
        self.database.unlock(node);
        self.soon(2_000, Happening::Start { node });
    }

    fn restart_database(&mut self) {
        let now = self.now;
        let mut chance = self.random();
        let mut is_undone = || {
            chance = chance.rotate_left(7).wrapping_mul(0x2545_f491_4f6c_dd1d);
            chance.is_multiple_of(8)
        };
        for id in self.database.crash(now, &mut is_undone) {
            self.checks.came_back(id);
        }
        for node in 0..2 {
            self.lose_locks(node);
        }
    }

    fn tell(&mut self, node: usize, life: u64, event: Event) {
        let now = self.now;
        let Some(alive) = self.alive(node, life) else { return };
        let mut actions = Vec::new();
        alive.core.step(now - alive.born, event, &mut actions);
        assert!(alive.core.load().0 <= CAPACITY.rows, "more rows in memory than there is room for");
        for action in actions {
            self.act(node, life, action);
        }
        let Some(alive) = self.alive(node, life) else { return };
        // It was asked to end, and does when nothing of it runs.
        if alive.is_stopping && alive.core.is_idle() {
            let owner = alive.owner;
            self.database.release(owner);
            return self.crash(node);
        }
        if let Some(deadline) = alive.core.deadline() {
            let at = (alive.born + deadline).max(now + Duration::from_micros(100));
            if alive.polls_at.is_none_or(|polls_at| at < polls_at) {
                alive.polls_at = Some(at);
                self.at(at, Happening::Poll { node, life });
            }
        }
    }

    fn act(&mut self, node: usize, life: u64, action: Action) {
        let Some(alive) = self.alive(node, life) else { return };
        let owner = alive.owner;
        match action {
            Action::Fetch(wanted) => self.soon(10, Happening::Fetch { node, life, wanted }),
            Action::Settle { batch, rows } => {
                self.soon(10, Happening::Settle { node, life, batch, owner, rows });
            }
            Action::TellOthers => {
                let other = 1 - node;
                if let Some(life) = self.nodes[other].as_ref().map(|node| node.life) {
                    self.tell(other, life, Event::Dirty);
                }
            }
            Action::Run { run, row } => self.begin(node, life, run, row),
        }
    }

    fn begin(&mut self, node: usize, life: u64, run: u64, row: Row) {
        self.checks.started(&row, self.now, self.has_faults);
        let is_owner = {
            let Some(alive) = self.alive(node, life) else { return };
            assert!(alive.believes.contains(&row.shard()), "works on a shard that it lost");
            alive.owned.contains(&row.shard())
        };
        if row.is_ordered && is_owner {
            self.check_order(node, &row);
        }
        if let Some(stored) = self.database.rows.get(&row.id).filter(|_| is_owner) {
            // The strike of this run is written, and is not in its row.
            let strikes = row.strikes + u16::from(row.is_suspect);
            let is_known = row.attempts >= stored.row.attempts && strikes >= stored.row.strikes;
            assert!(is_known, "event {} runs as if it had not been tried", row.id);
        }
        let id = row.id;
        let Some(alive) = self.alive(node, life) else { return };
        alive.running.insert(run, row);
        assert!(alive.running.len() <= CAPACITY.runs, "more runs at once than there is room for");
        if let Some(times) = self.checks.poison.get_mut(&id) {
            // One that was deposed and does not know it yet may run what the other runs, too; the end of the
            // run ends that. Seed 166 shows it.
            *times += u32::from(is_owner || !self.is_two_nodes);
            // Once, and three times with a strike.
            let most = u32::from(STRIKES_MAX) + 1;
            assert!(*times <= most, "event {id} ends the platform again and again");
            return self.crash(node);
        }
        let most = if self.one_in(20) { 2_000 } else { 50 };
        self.soon(most, Happening::End { node, life, run });
    }

    fn check_order(&self, node: usize, row: &Row) {
        let Some(stored) = self.database.rows.get(&row.id) else { return };
        // What the database brought back has run before.
        let is_done = |id: i64| self.checks.is_done(id);
        assert!(
            self.database.is_first_of_key_but(stored, &is_done),
            "event {} runs before an earlier one",
            row.id
        );
        let running = self.nodes[node].iter().flat_map(|node| node.running.values());
        let same = running.filter(|other| other.app == row.app && other.id != row.id && other.is_ordered);
        // What the database brought back runs once more.
        let same = same.filter(|other| !self.checks.is_done(other.id) && !self.checks.is_done(row.id));
        for other in same {
            let key = self.database.rows.get(&other.id).and_then(|stored| stored.key);
            assert!(key != stored.key, "events {} and {} of one key run together", other.id, row.id);
        }
    }

    fn alive(&mut self, node: usize, life: u64) -> Option<&mut Node> {
        self.nodes[node].as_mut().filter(|node| node.life == life)
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.next_number += 1;
        self.by_number.insert(self.next_number, happening);
        self.happenings.push(Reverse((at, self.next_number)));
    }

    /// Within so many milliseconds.
    fn soon(&mut self, most_ms: u64, happening: Happening) {
        let at = self.some(self.now, self.now + Duration::from_millis(most_ms));
        self.at(at, happening);
    }

    fn some(&mut self, from: Time, to: Time) -> Time {
        let span = u64::try_from((to - from).as_micros()).unwrap();
        from + Duration::from_micros(self.below(span + 1))
    }

    fn a_node(&mut self) -> usize {
        usize::from(self.is_two_nodes && self.one_in(2))
    }

    /// Whether one of so many goes wrong, while things do.
    fn goes_wrong(&mut self, of: u64) -> bool {
        self.has_faults && self.now < TROUBLE && self.one_in(of)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random() % limit.max(1)
    }

    fn random(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}
