//! What is to be sent to a worker, in order.
//!
//! Frames gather in one buffer, while the pool's lock is held. A large byte string that a frame ends with is moved or
//! shared and never copied there: to do that takes milliseconds, in which nothing could be started for anybody.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use shared::wire::codec;
use shared::wire::frame::ToWorker;

/// Room that is kept for frames; a larger batch enlarges it for as long as it lasts.
const OUTBOUND_BYTES: usize = 1 << 20;
/// To copy so much costs some microseconds, about as much as to write it by a call of its own.
const COPIED_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Frames, of which some lack the byte string that they end with.
    frames: Vec<u8>,
    /// How many they are.
    count: usize,
    /// Those byte strings, in the order of their frames.
    pieces: VecDeque<Piece>,
    /// How much has left of the frames.
    sent: usize,
    /// How much has left of the first piece.
    sent_of_piece: usize,
}

#[derive(Debug)]
struct Piece {
    /// Where the frame that it belongs to ends among the others.
    after: usize,
    bytes: Arc<Vec<u8>>,
}

/// The byte string that a frame ends with.
#[derive(Debug)]
pub(super) enum Tail<'a> {
    /// It is taken from there if it is large.
    Owned(&'a mut Vec<u8>),
    Shared(&'a Arc<Vec<u8>>),
}

impl Tail<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    fn keep(self) -> Arc<Vec<u8>> {
        match self {
            Self::Owned(bytes) => Arc::new(std::mem::take(bytes)),
            Self::Shared(bytes) => Arc::clone(bytes),
        }
    }
}

impl Outbound {
    /// Whether all has left.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames have gathered since all had left.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, kind: ToWorker, slot: u16, generation: u32, body: &impl Serialize) {
        self.count += 1;
        codec::encode(&mut self.frames, kind as u8, slot, generation, body);
    }

    /// Appends a frame whose last field is a byte string, which is empty in `body`.
    pub(super) fn push_ending(
        &mut self,
        kind: ToWorker,
        slot: u16,
        generation: u32,
        body: &impl Serialize,
        tail: Tail<'_>,
    ) {
        self.count += 1;
        let (start, bytes) = (self.frames.len(), tail.bytes());
        codec::encode(&mut self.frames, kind as u8, slot, generation, body);
        codec::announce(&mut self.frames, start, bytes.len());
        if bytes.len() <= COPIED_BYTES_MAX {
            self.frames.extend_from_slice(bytes);
        } else {
            self.pieces.push_back(Piece { after: self.frames.len(), bytes: tail.keep() });
        }
    }

    /// What is to be written next: not all there is where a piece begins or ends.
    pub(super) fn unsent(&self) -> &[u8] {
        match self.pieces.front() {
            Some(piece) if piece.after == self.sent => &piece.bytes[self.sent_of_piece..],
            Some(piece) => &self.frames[self.sent..piece.after],
            None => &self.frames[self.sent..],
        }
    }

    /// Notes that so many bytes of [`Self::unsent`] have left. Frees what is not needed any more, so the pool is not to
    /// be locked.
    pub(super) fn sent(&mut self, count: usize) {
        match self.pieces.front() {
            Some(piece) if piece.after == self.sent => {
                self.sent_of_piece += count;
                if self.sent_of_piece == piece.bytes.len() {
                    self.pieces.pop_front();
                    self.sent_of_piece = 0;
                }
            }
            _ => self.sent += count,
        }
        if self.sent == self.frames.len() && self.pieces.is_empty() {
            self.frames.clear();
            self.frames.shrink_to(OUTBOUND_BYTES);
            (self.sent, self.count) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use shared::call::{Reply, SUCCESS};
    use shared::host_call::HostOp;
    use shared::id::UserId;
    use shared::wire::codec::{HEADER_BYTES, Header};
    use shared::wire::frame::{AddBundle, DropBundle, Execute, FromWorker, HostCall, HostReply};
    use tokio::sync::Notify;

    use super::*;
    use crate::pool::calls::Place;
    use crate::pool::connection::{Connection, Start};
    use crate::pool::job::{Job, Task};
    use crate::pool::mode::Mode;
    use crate::pool::sample;
    use crate::pool::verify::Isolation;

    /// Where a length takes one byte more, where byte strings are no longer copied, and the longest input.
    const LENGTHS: [usize; 11] = [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        COPIED_BYTES_MAX - 1,
        COPIED_BYTES_MAX,
        COPIED_BYTES_MAX + 1,
        1 << 21,
        32 << 20,
    ];

    /// These bytes leave, and no others, where there is room for so many at a time.
    #[track_caller]
    fn leaves(outbound: &mut Outbound, mut expected: &[u8], room: usize) {
        while !outbound.is_empty() {
            let unsent = outbound.unsent();
            let count = unsent.len().min(room);
            let (next, rest) = expected.split_at(count);
            assert!(unsent[..count] == *next, "{} bytes before the end", expected.len());
            expected = rest;
            outbound.sent(count);
        }
        assert!(expected.is_empty(), "{} bytes are lacking", expected.len());
    }

    #[track_caller]
    fn leaves_as_encoded(whole: &impl Serialize, without: &impl Serialize, tail: Tail<'_>) {
        let (mut outbound, mut expected) = (Outbound::default(), Vec::new());
        codec::encode(&mut expected, ToWorker::Execute as u8, 3, 0x0102_0304, whole);
        outbound.push_ending(ToWorker::Execute, 3, 0x0102_0304, without, tail);
        leaves(&mut outbound, &expected, usize::MAX);
    }

    fn execute(input: &[u8]) -> Execute<'_> {
        Execute {
            handle: 300,
            fuel: 1 << 40,
            memory_bytes: 32 << 20,
            output_bytes: 512,
            timeout_ms: 10_000,
            clock_ms: -1,
            seed: [0xab; 16],
            input,
        }
    }

    #[test]
    fn a_frame_has_the_bytes_of_the_codec_however_long_its_byte_string_is() {
        for bytes in LENGTHS {
            let string = Arc::new(vec![0xa5; bytes]);
            let (load, without) =
                (AddBundle { handle: 300, load: &string }, AddBundle { handle: 300, load: &[] });
            leaves_as_encoded(&load, &without, Tail::Shared(&string));
            leaves_as_encoded(&execute(&string), &execute(&[]), Tail::Owned(&mut string.to_vec()));
            let (reply, without) =
                (HostReply { status: 1, body: &string }, HostReply { status: 1, body: &[] });
            leaves_as_encoded(&reply, &without, Tail::Owned(&mut string.to_vec()));
        }
    }

    #[test]
    fn frames_leave_in_order_however_little_is_taken_in_at_a_time() {
        let large = COPIED_BYTES_MAX + 1;
        let mut outbound = Outbound::default();
        for room in [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, 4096, large, usize::MAX] {
            let mut expected = Vec::new();
            for (handle, bytes) in (1_u8..).zip([large, large, 0, large, 5, 7, large]) {
                let (mut input, generation) = (vec![handle; bytes], u32::from(handle));
                codec::encode(&mut expected, ToWorker::Execute as u8, 0, generation, &execute(&input));
                let tail = Tail::Owned(&mut input);
                outbound.push_ending(ToWorker::Execute, 0, generation, &execute(&[]), tail);
                if bytes == 5 {
                    let drop = DropBundle { handle: 7 };
                    codec::encode(&mut expected, ToWorker::DropBundle as u8, 0, 0, &drop);
                    outbound.push(ToWorker::DropBundle, 0, 0, &drop);
                }
            }
            leaves(&mut outbound, &expected, room);
        }
    }

    #[test]
    fn a_large_batch_does_not_leave_its_room_behind() {
        let (mut outbound, input) = (Outbound::default(), vec![0; COPIED_BYTES_MAX]);
        while outbound.frames.len() < 3 * OUTBOUND_BYTES {
            outbound.push_ending(ToWorker::Execute, 0, 1, &execute(&[]), Tail::Owned(&mut input.clone()));
        }
        let count = outbound.unsent().len();
        outbound.sent(count - 1);
        assert!(!outbound.is_empty() && outbound.frames.capacity() >= 3 * OUTBOUND_BYTES);
        outbound.sent(1);
        assert!(outbound.is_empty() && outbound.frames.capacity() < 2 * OUTBOUND_BYTES);
    }

    /// A worker in which this runs.
    fn running(job: Job) -> Connection {
        let mut worker = Connection::new(1, (1, 2, Isolation::NONE), Arc::new(Notify::new()));
        worker.start(job, Start { now: Instant::now(), at_us: 0, seed: [0; 16] });
        worker
    }

    /// Where the byte strings are that go to a worker uncopied.
    fn uncopied(worker: &Connection) -> Vec<*const u8> {
        assert!(worker.outbound.frames.capacity() < OUTBOUND_BYTES, "something large was copied");
        worker.outbound.pieces.iter().map(|piece| piece.bytes.as_ptr()).collect()
    }

    #[test]
    fn attack_a_large_input_and_much_code_are_not_copied_while_the_pool_is_locked() {
        let mut job = sample::run(Mode::Shared, UserId::new());
        let (input, load) = (vec![0; 32 << 20], Arc::new(vec![0; 4 << 20]));
        let expected = [load.as_ptr(), input.as_ptr()];
        job.image.load = load;
        let Task::Run(invocation) = &mut job.task else { unreachable!("it runs") };
        invocation.input = input;
        assert_eq!(uncopied(&running(job)), expected);
    }

    #[test]
    fn attack_a_large_answer_is_not_copied_while_the_pool_is_locked() {
        let mut worker = running(sample::run(Mode::Shared, UserId::new()));
        let mut call = Vec::new();
        codec::encode_body(&mut call, &HostCall { op: HostOp::KvGet as u16, args: &[] });
        let header = Header { body_bytes: 0, kind: FromWorker::HostCall as u8, slot: 0, generation: 1 };
        worker.call(&header, &call).unwrap().unwrap();
        let body = vec![0; 4 << 20];
        let expected = [body.as_ptr()];
        worker.answer(Place { connection: 1, slot: 0, generation: 1 }, Reply { status: SUCCESS, body });
        assert_eq!(uncopied(&worker), expected);
    }
}
