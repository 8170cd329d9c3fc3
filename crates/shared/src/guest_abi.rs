//! What the worker and the guest say to each other through the guest's linear memory.
//!
//! The guest exports [`ALLOC`], [`LOAD`] and [`RUN`], its memory and its stack pointer. It imports
//! exactly three functions from [`IMPORT_MODULE`]: `host_call`, `clock` and `entropy`. Values are
//! postcard structs of scalars and bytes; see `docs/protocol.md`.

use serde::{Deserialize, Serialize};

use crate::script::Import;

/// `(len: i32) -> ptr: i32`: a buffer for the next argument.
pub const ALLOC: &str = "picloud_alloc";
/// `(ptr: i32, len: i32) -> i64`: compiles a [`LoadRequest`], answers a packed [`LoadReply`].
pub const LOAD: &str = "picloud_load";
/// `(ptr: i32, len: i32) -> i64`: runs the loaded script on a [`GuestInput`], answers a packed
/// [`GuestOutput`].
pub const RUN: &str = "picloud_run";
/// `()`: builds the engine; runs once, when the guest is built.
pub const INIT: &str = "picloud_init";
/// The guest's memory.
pub const MEMORY: &str = "memory";
/// The global in which the guest counts the fuel it burns: below 0 while there is some. The build
/// adds it, together with the calls of [`crate::host_call::REFUEL`].
pub const FUEL: &str = "fuel";
/// The module of the three imports.
pub const IMPORT_MODULE: &str = "picloud";

/// Packs pointer and length of a guest buffer into a guest function's result.
pub const fn pack(ptr: u32, len: u32) -> u64 {
    ((ptr as u64) << 32) | len as u64
}

/// Splits what [`pack`] made.
pub const fn unpack(packed: u64) -> (u32, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits by construction")]
    ((packed >> 32) as u32, packed as u32)
}

/// A bundle to compile, with the limits that act on the compiler and the interpreter.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LoadRequest<'a> {
    pub max_operations: u64,
    pub max_call_levels: u32,
    pub max_expr_depth: u32,
    /// A postcard [`crate::script::Bundle`].
    #[serde(with = "serde_bytes", borrow)]
    pub bundle: &'a [u8],
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadReply<'a> {
    /// `imports` is what the main source itself imports, each module once; at most
    /// [`crate::limits::MODULES_MAX`].
    Loaded { imports: Vec<Import> },
    /// The source does not compile. Line and column count from 1; 0 means unknown.
    Rejected { script: &'a str, line: u32, column: u32, message: &'a str },
}

/// Why an execution runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvocationType {
    Http,
    Event,
    Function,
    Schedule,
}

impl InvocationType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Event => "event",
            Self::Function => "function",
            Self::Schedule => "schedule",
        }
    }
}

/// Everything a script can observe besides answers to its calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestInput<'a> {
    pub execution_id: [u8; 16],
    pub request_id: &'a str,
    pub app: &'a str,
    pub script: &'a str,
    pub version: u32,
    pub invocation_type: InvocationType,
    pub trigger_depth: u32,
    pub fuel: u64,
    pub memory_mb: u32,
    pub timeout_ms: u32,
    pub response_bytes: u32,
    /// Who calls, where that was found out.
    #[serde(borrow)]
    pub user: Option<GuestUser<'a>>,
    pub http: Option<GuestHttp<'a>>,
    /// What happened, as JSON text of an object, where an event is why the script runs.
    #[serde(with = "serde_bytes", borrow)]
    pub event: Option<&'a [u8]>,
    pub delivery: Option<GuestDelivery>,
}

/// The delivery that a run is an attempt of.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GuestDelivery {
    pub id: [u8; 16],
    pub attempt: u32,
    pub replay_of: Option<[u8; 16]>,
}

/// A caller whose credential was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestUser<'a> {
    /// A person, by their API key.
    Person { id: [u8; 16], name: &'a str },
    /// One of the app's own users. `roles` is JSON text of a list, `profile` of an object.
    AppUser { id: [u8; 16], login: &'a str, roles: &'a str, profile: &'a str },
}

/// The request of an HTTP execution. Blocks are [`crate::http::PairBlock`]s.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestHttp<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// What a prefix route's `*` matched.
    pub rest: &'a str,
    pub remote_ip: &'a str,
    #[serde(with = "serde_bytes", borrow)]
    pub params: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub query: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub headers: &'a [u8],
    #[serde(with = "serde_bytes", borrow)]
    pub body: &'a [u8],
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestOutput<'a> {
    /// The script answered. `headers` is a [`crate::http::PairBlock`].
    Response {
        status: u16,
        #[serde(with = "serde_bytes", borrow)]
        headers: &'a [u8],
        #[serde(with = "serde_bytes", borrow)]
        body: &'a [u8],
    },
    /// The script failed. Line and column count from 1; 0 means unknown.
    ScriptError {
        script: &'a str,
        line: u32,
        column: u32,
        message: &'a str,
        /// The script itself says that trying again is of no use.
        is_fatal: bool,
    },
    /// The script answered with something that is no response, such as a status of 1000.
    InvalidResponse { message: &'a str },
}
