//! The I/O of one worker, in one loop: send what is pending, take in what came, mind the clock.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::incident::Suspect;
use shared::limits::FRAME_FROM_WORKER_BYTES_MAX;
use shared::wire::codec::{HEADER_BYTES, Header};
use tokio::sync::Notify;

use super::news::{Ended, News};
use super::outbound::Outbound;
use super::outcome;
use super::socket::Socket;
use super::state::Shared;
use super::suspicion;
use super::violation::{Unruly, Violation};

/// Room for a batch of ordinary frames.
const INBOUND_BYTES: usize = 256 << 10;
/// A worker that takes in nothing for this long is stuck.
const STALL: Duration = Duration::from_secs(1);

/// Why a conversation is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("the worker closed its end")]
    Closed,
    #[error("the worker sent {0}")]
    Violation(#[from] Violation),
    #[error(transparent)]
    Unruly(#[from] Unruly),
    #[error("the worker stopped reading")]
    Stalled,
    #[error("the socket failed: {0}")]
    Socket(#[from] std::io::Error),
}

/// Talks to worker `id` until one of the two is done with the other.
pub(super) async fn run_conversation(
    shared: &Arc<Shared>,
    id: u64,
    socket: &Socket,
    wake: &Arc<Notify>,
    suspects: &mut Vec<Suspect>,
) -> Over {
    let mut conversation = Conversation {
        shared,
        id,
        socket,
        outbound: Outbound::default(),
        stalled: None,
        inbound: Inbound::new(),
        suspects,
    };
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        let deadline = match conversation.exchange() {
            Ok(deadline) => deadline,
            Err(over) => return over,
        };
        if let Some(deadline) = deadline {
            let deadline = deadline.into();
            // One that ends too early costs a look at the clock; setting it anew for each request costs more.
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
        }
        tokio::select! {
            // Nothing is lost when an arm is cancelled: readiness and notifications stay set.
            readable = socket.readable() => if let Err(error) = readable { return error.into() },
            writable = socket.writable(), if !conversation.outbound.is_empty() => {
                if let Err(error) = writable { return error.into() }
            }
            () = wake.notified() => {}
            () = timer.as_mut(), if deadline.is_some() => {
                if let Err(over) = conversation.look_at_clock() { return over }
            }
        }
    }
}

struct Conversation<'a> {
    shared: &'a Arc<Shared>,
    id: u64,
    socket: &'a Socket,
    /// What is leaving.
    outbound: Outbound,
    /// Since when the worker takes in nothing of what is to be sent.
    stalled: Option<Instant>,
    inbound: Inbound,
    /// Executions that had just ended when the worker broke the protocol.
    suspects: &'a mut Vec<Suspect>,
}

impl Conversation<'_> {
    /// Sends and receives until neither moves; answers when to look at the clock.
    fn exchange(&mut self) -> Result<Option<Instant>, Over> {
        loop {
            let deadline = self.send()?;
            if !self.receive()? {
                let stall = self.stalled.map(|since| since + STALL);
                return Ok(deadline.into_iter().chain(stall).min());
            }
        }
    }

    fn send(&mut self) -> Result<Option<Instant>, Over> {
        loop {
            let was_empty = self.outbound.is_empty();
            let deadline = self.shared.collect(self.id, &mut self.outbound)?;
            self.write()?;
            // What gathered while something was leaving can only be collected now.
            if was_empty || !self.outbound.is_empty() {
                return Ok(deadline);
            }
        }
    }

    /// Writes what there is room for.
    fn write(&mut self) -> Result<(), Over> {
        while !self.outbound.is_empty() {
            match self.socket.try_write(self.outbound.unsent()) {
                Ok(count) => {
                    self.outbound.sent(count);
                    self.stalled = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert_with(Instant::now);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(Over::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes in what the worker sent; false when there was nothing.
    fn receive(&mut self) -> Result<bool, Over> {
        match self.socket.try_read(self.inbound.spare()) {
            Ok(0) => return Err(Over::Closed),
            Ok(count) => self.inbound.end += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(Over::Closed),
            Err(error) => return Err(error.into()),
        }
        let mut news = News::default();
        let accepted = self.shared.accept(self.id, self.inbound.unread(), &mut news);
        let News { ended, calls } = news;
        if let Err(violation) = &accepted {
            self.suspects.extend(ended.iter().map(|ended| suspicion::suspect(&ended.execution)));
            self.shared.accuse(self.id, *violation, self.suspects);
        }
        // Executions that ended before a violation did end; their callers get their answers.
        let concluded = self.conclude(ended);
        let consumed = accepted?;
        concluded?;
        // Calls that came with a violation, also with one in a result, are not carried out: the worker was no longer ours.
        let received = self.inbound.unread();
        calls.into_iter().for_each(|call| call.carry_out(self.shared, received));
        self.inbound.consume(consumed)?;
        Ok(true)
    }

    fn conclude(&mut self, ended: Vec<Ended>) -> Result<(), Over> {
        if ended.is_empty() {
            return Ok(());
        }
        let bytes = self.inbound.unread();
        let judged = ended.into_iter().map(|Ended { execution, body }| {
            let judged = outcome::judge(&execution, &bytes[body]);
            (execution, judged)
        });
        let judged: Vec<_> = judged.collect();
        let broken =
            judged.iter().filter_map(|(execution, judged)| Some((execution, judged.as_ref().err()?)));
        let (liars, violations): (Vec<_>, Vec<_>) =
            broken.map(|(execution, violation)| (suspicion::suspect(execution), *violation)).unzip();
        let violation = violations.last().copied();
        if let Some(violation) = violation {
            self.shared.accuse(self.id, violation, &liars);
        }
        self.suspects.extend(liars);
        // Before anybody is told: what waits is started at once.
        let costs = judged.iter().map(|(execution, judged)| {
            let fuel = judged
                .as_ref()
                .map_or_else(|_| execution.fuel_when_lost(), |judged| judged.fuel + judged.load_fuel);
            execution.job.cost(fuel)
        });
        self.shared.charge(self.id, costs);
        let records = &*self.shared.ports.records;
        for (execution, judged) in judged {
            match judged {
                Ok(judged) => outcome::conclude(execution, judged, records),
                Err(_) => outcome::conclude_lost(execution, records),
            }
        }
        violation.map_or(Ok(()), |violation| Err(violation.into()))
    }

    fn look_at_clock(&mut self) -> Result<(), Over> {
        // This process may have stood still for long: what the worker did meanwhile is seen before it is judged.
        self.exchange()?;
        let now = Instant::now();
        self.shared.enforce_deadlines(self.id, now)?;
        match self.stalled {
            Some(since) if now >= since + STALL => Err(Over::Stalled),
            _ => Ok(()),
        }
    }
}

/// Bytes received, and which of them have not been looked at.
struct Inbound {
    bytes: Vec<u8>,
    end: usize,
}

impl Inbound {
    fn new() -> Self {
        Self { bytes: vec![0; INBOUND_BYTES], end: 0 }
    }

    fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Drops the first bytes and makes room for the frame that the rest begins, whose length has
    /// been checked by then.
    fn consume(&mut self, count: usize) -> Result<(), Violation> {
        self.bytes.copy_within(count..self.end, 0);
        self.end -= count;
        let needed = match Header::peek(self.unread()).transpose()? {
            Some(header) => HEADER_BYTES + (header.body_bytes as usize).min(FRAME_FROM_WORKER_BYTES_MAX),
            None => HEADER_BYTES,
        };
        if needed > self.bytes.len() {
            self.bytes.resize(needed, 0);
        } else if self.bytes.len() > INBOUND_BYTES && needed.max(self.end) <= INBOUND_BYTES {
            self.bytes.truncate(INBOUND_BYTES);
            self.bytes.shrink_to_fit();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use shared::id::UserId;
    use shared::wire::codec;
    use shared::wire::frame::{Execute, ToWorker};

    use super::*;
    use crate::pool::connection::Start;
    use crate::pool::job::Task;
    use crate::pool::mode::Mode;
    use crate::pool::recruit::PoolConfig;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    /// Starts a run with so long an input in the only worker.
    fn start(shared: &Shared, input_bytes: usize) {
        let mut job = sample::run(Mode::Shared, UserId::new());
        let Task::Run(invocation) = &mut job.task else { unreachable!("it runs") };
        invocation.input = vec![7; input_bytes];
        let start = Start { now: Instant::now(), at_us: 0, seed: [0; 16] };
        shared.lock().connections[0].start(job, start);
    }

    /// The worker takes in what there is; answers whether there was anything.
    fn take_in(mut worker: &UnixStream, received: &mut Vec<u8>) -> bool {
        let before = received.len();
        assert_eq!(worker.read_to_end(received).unwrap_err().kind(), ErrorKind::WouldBlock);
        received.len() > before
    }

    /// Slots and lengths of the inputs, in the order in which they came.
    fn inputs(mut received: &[u8]) -> Vec<(u16, usize)> {
        let mut inputs = Vec::new();
        while let Some(header) = Header::peek(received) {
            let header = header.unwrap();
            let (body, rest) = received[HEADER_BYTES..].split_at(header.body_bytes as usize);
            if header.kind == ToWorker::Execute as u8 {
                let execute: Execute<'_> = codec::decode_body(body).unwrap();
                inputs.push((header.slot, execute.input.len()));
            }
            received = rest;
        }
        inputs
    }

    #[tokio::test]
    async fn what_is_started_while_the_worker_takes_in_nothing_stays_where_it_is_and_leaves_next() {
        let shared = Arc::new(sample::shared(&PoolConfig::new("/".into(), 1, 2).isolated(Mode::Shared)));
        let (id, _) = shared.attach((1, 2, Isolation::NONE), true, None).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        let (socket, mut suspects) = (Socket::new(ours).unwrap(), Vec::new());
        let mut conversation = Conversation {
            shared: &shared,
            id,
            socket: &socket,
            outbound: Outbound::default(),
            stalled: None,
            inbound: Inbound::new(),
            suspects: &mut suspects,
        };
        start(&shared, 4 << 20);
        conversation.exchange().unwrap();
        assert!(conversation.stalled.is_some() && shared.lock().connections[0].outbound.is_empty());
        start(&shared, 10);
        conversation.exchange().unwrap();
        assert!(!shared.lock().connections[0].outbound.is_empty());
        let mut received = Vec::new();
        while take_in(&theirs, &mut received) {
            conversation.exchange().unwrap();
        }
        assert_eq!(inputs(&received), [(0, 4 << 20), (1, 10)]);
        assert!(conversation.outbound.is_empty() && conversation.stalled.is_none());
    }
}
