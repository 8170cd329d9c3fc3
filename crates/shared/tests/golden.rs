//! The bytes of every frame, frozen. A change here is a new protocol version.

use shared::guest_abi::LoadReply;
use shared::host_call::{CallFailure, kv, users};
use shared::script::Import;
use shared::wire::codec::{self, FrameError, HEADER_BYTES, Header};
use shared::wire::frame::{
    AddBundle, Compile, Done, DropBundle, Ending, Execute, FromWorker, HelloParent, HelloWorker, HostCall,
    HostReply, PROTOCOL_VERSION, ToWorker,
};
use shared::wire::worker::Layers;

fn frame<B: serde::Serialize>(kind: u8, slot: u16, generation: u32, body: &B) -> String {
    let mut bytes = Vec::new();
    codec::encode(&mut bytes, kind, slot, generation, body);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn protocol_version_is_what_these_bytes_belong_to() {
    assert_eq!(PROTOCOL_VERSION, 5);
}

#[test]
fn frames_to_the_worker_are_frozen() {
    let hello = HelloWorker { protocol: 3, slots: 16, image_cache_bytes: 8 << 20, code_at: 0x1234_0000 };
    assert_eq!(
        frame(ToWorker::Hello as u8, 0, 0, &hello),
        "0b00000000000000000000000310 80808004 8080d09101".replace(' ', "")
    );
    let add = AddBundle { handle: 7, load: b"xyz" };
    assert_eq!(
        frame(ToWorker::AddBundle as u8, 0, 0, &add),
        "0500000001000000000000000703 78797a".replace(' ', "")
    );
    assert_eq!(
        frame(ToWorker::DropBundle as u8, 0, 0, &DropBundle { handle: 300 }),
        "020000000200000000000000ac02"
    );
    let execute = Execute {
        handle: 7,
        fuel: 1000,
        memory_bytes: 65536,
        output_bytes: 512,
        timeout_ms: 10_000,
        clock_ms: -1,
        seed: [0xab; 16],
        input: &[1, 2],
    };
    assert_eq!(
        frame(ToWorker::Execute as u8, 3, 0x0102_0304, &execute),
        format!("1e000000 0300 0300 04030201 07 e807 808004 8004 904e 01 {} 020102", "ab".repeat(16))
            .replace(' ', "")
    );
    let compile = Compile { handle: 7, timeout_ms: 100 };
    assert_eq!(
        frame(ToWorker::Compile as u8, 1, 2, &compile),
        "020000000400010002000000 0764".replace(' ', "")
    );
    let reply = HostReply { status: 1, body: b"no" };
    assert_eq!(
        frame(ToWorker::HostReply as u8, 1, 2, &reply),
        "040000000500010002000000 01026e6f".replace(' ', "")
    );
    assert_eq!(frame(ToWorker::Cancel as u8, 1, 2, &()), "000000000600010002000000");
    assert_eq!(frame(ToWorker::Stop as u8, 0, 0, &()), "000000000700000000000000");
}

#[test]
fn frames_from_the_worker_are_frozen() {
    let hello = HelloParent { protocol: 3, slots: 16, guest: [0xcd; 32], layers: Layers::ALL };
    assert_eq!(
        frame(FromWorker::Hello as u8, 0, 0, &hello),
        format!("25000000 0000 0000 00000000 03 10 {} ffff3f", "cd".repeat(32)).replace(' ', "")
    );
    let call = HostCall { op: 0x8001, args: &[9] };
    assert_eq!(
        frame(FromWorker::HostCall as u8, 15, 1, &call),
        "05000000 0100 0f00 01000000 818002 0109".replace(' ', "")
    );
    assert_eq!(
        frame(FromWorker::Notice as u8, 15, 1, &call),
        "05000000 0200 0f00 01000000 818002 0109".replace(' ', "")
    );
    for (number, ending) in [
        Ending::Answered,
        Ending::Compiled,
        Ending::Rejected,
        Ending::FuelExhausted,
        Ending::MemoryExceeded,
        Ending::Timeout,
        Ending::Cancelled,
        Ending::StackOverflow,
        Ending::Trapped,
        Ending::OutputTooLarge,
    ]
    .into_iter()
    .enumerate()
    {
        let done = Done { ending, fuel: 5, load_fuel: 3, peak_memory_bytes: 1 << 16, output: b"ok" };
        assert_eq!(
            frame(FromWorker::Done as u8, 2, 9, &done),
            format!("09000000 0300 0200 09000000 {number:02x} 05 03 808004 026f6b").replace(' ', "")
        );
    }
}

#[test]
fn reports_of_a_load_are_frozen() {
    let body = |reply: &LoadReply<'_>| {
        let mut bytes = Vec::new();
        codec::encode_body(&mut bytes, reply);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let imports = vec![Import { name: "tax".into(), line: 3, column: 300 }];
    assert_eq!(body(&LoadReply::Loaded { imports }), "000103746178 03ac02".replace(' ', ""));
    let rejected = LoadReply::Rejected { script: "a", line: 1, column: 2, message: "no" };
    assert_eq!(body(&rejected), "01 0161 01 02 026e6f".replace(' ', ""));
}

#[test]
fn arguments_and_answers_of_calls_are_frozen() {
    fn body<T: serde::Serialize>(value: &T) -> String {
        let mut bytes = Vec::new();
        codec::encode_body(&mut bytes, value);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
    assert_eq!(body(&CallFailure { code: "no", message: "way" }), "026e6f 03776179".replace(' ', ""));
    assert_eq!(body(&kv::Key { collection: "c", key: "k" }), "0163 016b".replace(' ', ""));
    assert_eq!(body(&kv::Found { value: Some("1") }), "01 0131".replace(' ', ""));
    let set =
        kv::Set { collection: "c", key: "k", value: "1", ttl_ms: 300, condition: kv::Condition::Version(7) };
    assert_eq!(body(&set), "0163 016b 0131 ac02 02 07".replace(' ', ""));
    assert_eq!(body(&kv::Written { version: 300 }), "ac02");
    let register = users::Register { login: "a", password: "pw", profile: "{}" };
    assert_eq!(body(&register), "0161 027077 027b7d".replace(' ', ""));
    assert_eq!(body(&users::Logout { token: None }), "00");
    let roles = Some(vec!["r"]);
    let update = users::Update { id: "i", roles, disabled: Some(true), ..users::Update::default() };
    assert_eq!(body(&update), "0169 00 00 00 01010172 00 0101".replace(' ', ""));
    assert_eq!(body(&users::Found { json: Some("1") }), "01 0131".replace(' ', ""));
}

#[test]
fn every_layer_has_a_bit_and_a_name_of_its_own() {
    let mut all = Layers::NONE;
    for (layer, name) in Layers::NAMED {
        assert_eq!(layer.bits().count_ones(), 1, "{name}");
        assert_eq!(all.without(*layer), all, "{name}");
        assert_eq!(Layers::by_name(name), Some(*layer));
        all |= *layer;
    }
    assert_eq!(all, Layers::ALL);
    assert_eq!((Layers::LANDLOCK | Layers::LIMITS).to_string(), "landlock, limits");
}

#[test]
fn header_with_a_reserved_byte_is_refused() {
    let mut bytes = [0; HEADER_BYTES];
    bytes[5] = 1;
    assert_eq!(Header::decode(bytes), Err(FrameError::Reserved));
}

#[test]
fn short_header_is_not_a_header_yet() {
    assert!(Header::peek(&[0; HEADER_BYTES - 1]).is_none());
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = Vec::new();
    codec::encode_body(&mut bytes, &DropBundle { handle: 1 });
    assert_eq!(codec::decode_body(&bytes), Ok(DropBundle { handle: 1 }));
    bytes.push(0);
    assert_eq!(codec::decode_body::<DropBundle>(&bytes), Err(FrameError::Trailing));
}

#[test]
fn declared_length_beyond_the_body_allocates_nothing() {
    // 2^32 - 1 bytes announced, none present.
    let bytes = [0x00, 0x05, 0x05, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(codec::decode_body::<Done<'_>>(&bytes), Err(FrameError::Body));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(bytes: Vec<u8>) {
        let _ = codec::decode_body::<Done<'_>>(&bytes);
        let _ = codec::decode_body::<HostCall<'_>>(&bytes);
        let _ = codec::decode_body::<HelloParent>(&bytes);
        let _ = codec::decode_body::<shared::guest_abi::GuestOutput<'_>>(&bytes);
        let _ = codec::decode_body::<shared::guest_abi::LoadReply<'_>>(&bytes);
        let _ = codec::decode_body::<shared::host_call::LogLine<'_>>(&bytes);
        let _ = codec::decode_body::<kv::Key<'_>>(&bytes);
        let _ = codec::decode_body::<kv::Set<'_>>(&bytes);
    }
}
