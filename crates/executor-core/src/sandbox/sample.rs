//! Frames' bodies as a parent makes them, for tests.

use shared::guest_abi::{GuestInput, InvocationType, LoadRequest};
use shared::limits::FUEL_MIN;
use shared::script::Bundle;
use shared::wire::codec;

/// Code to load, whose calls may be nested so deeply.
pub(crate) fn load_request(bundle: &Bundle, max_call_levels: u32) -> Vec<u8> {
    let (mut encoded, mut request) = (Vec::new(), Vec::new());
    codec::encode_body(&mut encoded, bundle);
    let load = LoadRequest { max_operations: 0, max_call_levels, max_expr_depth: 64, bundle: &encoded };
    codec::encode_body(&mut request, &load);
    request
}

/// What a script is told that is called without anything.
pub(crate) const INPUT: GuestInput<'static> = GuestInput {
    execution_id: [1; 16],
    request_id: "r",
    app: "a",
    script: "script",
    version: 1,
    invocation_type: InvocationType::Function,
    trigger_depth: 0,
    fuel: FUEL_MIN,
    memory_mb: 32,
    timeout_ms: 1000,
    response_bytes: 1000,
    user: None,
    http: None,
    event: None,
    delivery: None,
};

pub(crate) fn encoded(input: &GuestInput<'_>) -> Vec<u8> {
    let mut encoded = Vec::new();
    codec::encode_body(&mut encoded, input);
    encoded
}
