//! The limits of the platform that more than one crate knows, or that scripts and those who deploy them meet, with their
//! units and the reasons for the numbers. Those of the ingress and of the pool are where they are kept.
//!
//! `docs/limits.md` says the same to users, by the names here: `xtask tidy` compares them.

mod apps;
mod compiling;
mod files;
mod logs;
mod queues;
mod realtime;

use serde::{Deserialize, Serialize};

pub use self::apps::{
    MANIFEST_BYTES_MAX, MANIFEST_ROUTES_MAX, MANIFEST_SCRIPTS_MAX, ROUTES_MAX, SCRIPTS_MAX,
    SOURCES_BYTES_MAX, VERSION_BYTES_MIN, VERSIONS_BYTES_MAX, VERSIONS_MAX,
};
pub use self::compiling::{COMPILE_FUEL, COMPILE_MEMORY_MB, COMPILE_MEMORY_PER_BYTE, COMPILE_TIMEOUT_MS};
pub use self::files::{
    APP_UPLOADS_MAX, FILE_BYTES_MAX, FILE_LINK_S_MAX, FILE_NAME_BYTES_MAX, FILE_UPLOAD_S_MAX,
    FILE_UPLOADS_MAX, FILES_BYTES_MAX, FILES_LIST_MAX, FILES_UPLOADS_MAX,
};
pub use self::logs::{LOG_BYTES_MAX, LOG_LINES_MAX, LOG_NOTICES_MAX, LOGS_BYTES_MAX, NOTICE_BYTES_MAX};
pub use self::queues::{
    MESSAGE_BYTES_MAX, QUEUE_CONCURRENCY_MAX, QUEUE_DELAY_MS_MAX, QUEUE_MESSAGES_MAX, QUEUES_BYTES_MAX,
};
pub use self::realtime::{
    EPHEMERAL_EXTERNAL_BYTES_MAX, REALTIME_ADDRESS_LISTENERS_MAX, REALTIME_APP_LISTENERS_MAX,
    REALTIME_HISTORY_BYTES_MAX, REALTIME_HISTORY_MESSAGES_MAX, REALTIME_LISTENERS_MAX,
    SUBSCRIBER_TOKEN_S_MAX, SUBSCRIBER_TOKEN_TOPICS_MAX,
};

/// Fuel an execution may burn unless its script says otherwise: about 1 s of CPU on a small server.
pub const FUEL_DEFAULT: u64 = 10_000_000_000;
/// What a microsecond of CPU is charged with where nobody counted the fuel: by the same measure.
pub const FUEL_PER_US: u64 = FUEL_DEFAULT / 1_000_000;
/// Most fuel a script may ask for: about 30 s of CPU, a tenth of the longest wall-clock limit.
pub const FUEL_MAX: u64 = 300_000_000_000;
/// Least fuel that lets a script do anything at all.
pub const FUEL_MIN: u64 = 100_000;

/// Events deeper in a chain than this are ended, and calls of scripts by scripts refused: a script that causes itself would
/// go on for ever.
pub const DEPTH_MAX: u32 = 8;

/// Linear memory of the guest in MiB.
pub const MEMORY_MB_DEFAULT: u32 = 32;
/// More than a script with one large upload needs, and little enough that a worker full of them fits.
pub const MEMORY_MB_MAX: u32 = 256;
/// The interpreter and its stack take about 1.5 MiB.
pub const MEMORY_MB_MIN: u32 = 2;

/// Wall-clock time from dispatch to result, in milliseconds.
pub const TIMEOUT_MS_DEFAULT: u32 = 10_000;
pub const TIMEOUT_MS_MAX: u32 = 300_000;
pub const TIMEOUT_MS_MIN: u32 = 10;

/// Rhai operations; 0 means no limit, because one operation may be arbitrarily long and fuel is
/// what bounds CPU.
pub const MAX_OPERATIONS_DEFAULT: u64 = 0;
/// The largest whole number that most readers of JSON know.
pub const MAX_OPERATIONS_MAX: u64 = i64::MAX.unsigned_abs();

/// Nested function calls. The ceiling is what fits the guest's stack, see the attack tests.
pub const MAX_CALL_LEVELS_DEFAULT: u32 = 64;
pub const MAX_CALL_LEVELS_MAX: u32 = 128;

/// Nesting of expressions, checked when a script is compiled; with less than the least, no expression does.
pub const MAX_EXPR_DEPTH_MIN: u32 = 2;
pub const MAX_EXPR_DEPTH_DEFAULT: u32 = 64;
pub const MAX_EXPR_DEPTH_MAX: u32 = 128;

/// Body of a response in bytes.
pub const RESPONSE_BYTES_DEFAULT: u32 = 1 << 20;
pub const RESPONSE_BYTES_MAX: u32 = 16 << 20;

/// Longest silence within a request's body, in seconds. A mobile network is away for less.
pub const BODY_PAUSE_S: u64 = 30;
/// From this age on, in seconds, a body must have come in at [`BODY_RATE_MIN`] on average.
pub const BODY_RATE_FROM_S: u64 = 10;
/// Bytes per second: a modem of 1990 is faster, and who sends less only wants to be waited for.
pub const BODY_RATE_MIN: u64 = 1_024;

/// Name of a script.
pub const NAME_BYTES_MAX: usize = 128;
/// Source of one script. A larger one is refused with 413.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Source of a script with all its modules.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;
/// Modules a script may import, directly and through other modules: far beyond an honest app, and
/// what keeps the report of a compilation within the overhead of a result.
pub const MODULES_MAX: usize = 64;
/// Length of a chain of imports, from the script to the last module: deeper is a mistake.
pub const IMPORT_DEPTH_MAX: usize = 8;
/// Scripts that one deploy of a module may change: each is compiled, at about 10 ms.
pub const DEPENDENTS_MAX: usize = 1_000;
/// Source of all bundles that one deploy of a module makes: they are in memory together.
pub const REBUNDLE_BYTES_MAX: usize = 64 << 20;

/// Triggers of an app: each change of its data is compared with all of them, at under a microsecond.
pub const TRIGGERS_MAX: usize = 1_000;

/// Topics that an app registers: a table that people read.
pub const TOPICS_MAX: usize = 1_000;
/// What a trigger is set to, as JSON.
pub const TRIGGER_CONFIG_BYTES_MAX: usize = 16 << 10;
/// Times that an event may be tried.
pub const ATTEMPTS_MAX: u16 = 25;

/// Secrets that one webhook's requests may be signed with: the new one, the old one, and two to spare.
pub const WEBHOOK_SECRETS_MAX: usize = 4;
/// How far, in seconds, the signed time of a webhook's request may be from the server's clock: as
/// Standard Webhooks and Stripe advise, and at most half a day. It may be dated so far ahead and come again
/// so long after, and all that time its id is remembered, which is a day.
pub const WEBHOOK_TOLERANCE_S_DEFAULT: u32 = 300;
pub const WEBHOOK_TOLERANCE_S_MAX: u32 = 12 * 60 * 60;
/// Signed requests that a webhook takes in a minute: one a second in the long run; and at most 100 a second.
pub const WEBHOOK_PER_MINUTE_DEFAULT: u32 = 60;
pub const WEBHOOK_PER_MINUTE_MAX: u32 = 6_000;

/// One static file of an app: a page with its pictures, not a film.
pub const ASSET_BYTES_MAX: usize = 5 << 20;
/// Static files of an app together, and how many.
pub const ASSETS_BYTES_MAX: u64 = 64 << 20;
pub const ASSETS_MAX: u64 = 1_000;

/// One secret in bytes: a private key with its chain of certificates fits.
pub const SECRET_BYTES_MAX: usize = 32 << 10;
/// Secrets of one app: far more than anybody keeps track of.
pub const SECRETS_MAX: i64 = 1_000;
/// Bytes of secrets, passwords and tokens that an execution uses together with those that it calls and waits for: they
/// are remembered until it ends, and whatever it says is searched for them. Each takes 512 bytes beside its own, so there
/// are 2,048 at most.
pub const CONFIDENTIAL_BYTES_MAX: usize = 1 << 20;

/// Password of a person or of an app's user: nobody remembers a longer one, and hashing megabytes would be work for
/// free.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Request body accepted on a route unless it says otherwise.
pub const BODY_BYTES_DEFAULT: u32 = 1 << 20;
/// Largest body limit a route may set.
pub const BODY_BYTES_MAX: u32 = 32 << 20;
/// Least memory for all bodies at a time: one app and one client have half of it, which has room for the
/// largest.
pub const BODIES_BYTES_MIN: u64 = 64 << 20;

/// Host calls one execution may make, log lines not counted: each may be work for the database, at
/// about 100 µs.
pub const HOST_CALLS_MAX: u32 = 10_000;
/// Calls beyond that are answered with an error so many times; then the execution is ended, because
/// its script does not look at errors.
pub const HOST_CALL_REFUSALS_MAX: u32 = 100;
/// Arguments of all of an execution's calls together, and all answers: ten times what is in its
/// memory at once.
pub const HOST_CALLS_BYTES_MAX: u32 = 64 << 20;

/// Name of a collection of values, documents or files.
pub const COLLECTION_BYTES_MAX: usize = 128;
/// Key of a value: as long as PostgreSQL's index takes it together with the rest.
pub const KV_KEY_BYTES_MAX: usize = 512;
/// A value, as JSON text.
pub const KV_VALUE_BYTES_MAX: usize = 64 << 10;
/// Entries of one page, and keys of one `get_many`.
pub const KV_LIST_MAX: u32 = 1_000;
/// Longest time for which a value can be set to expire: a century, in milliseconds.
pub const KV_TTL_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

/// A document, as JSON text.
pub const DOC_BYTES_MAX: usize = 256 << 10;
/// Documents of one page.
pub const DOCS_LIST_MAX: u32 = 1_000;
/// Unless a query says how many.
pub const DOCS_LIST_DEFAULT: u32 = 100;

/// Indexes of documents: of an app, and of all apps, because every write of a document asks each whether it
/// is meant.
pub const DOC_INDEXES_MAX: i64 = 8;
pub const DOC_INDEXES_ALL_MAX: i64 = 256;

/// Schemas of documents: of an app; bytes of one as JSON; and its parts, each reference counted as what it
/// leads to, because a document is compared with each.
pub const DOC_SCHEMAS_MAX: i64 = 100;
pub const DOC_SCHEMA_BYTES_MAX: usize = 32 << 10;
pub const DOC_SCHEMA_NODES_MAX: usize = 500;

/// An app's own users: a small town, and what one list can still be paged through.
pub const APP_USERS_MAX: i64 = 100_000;
/// Name by which one of them logs in: the longest address of mail (RFC 5321).
pub const APP_USER_LOGIN_BYTES_MAX: usize = 254;
/// What an app keeps of a user beside it, as JSON: it goes along with every request of theirs.
pub const APP_USER_PROFILE_BYTES_MAX: usize = 8 << 10;
/// Roles of one of them, and the length of one.
pub const APP_USER_ROLES_MAX: usize = 32;
pub const APP_USER_ROLE_BYTES_MAX: usize = 64;
/// Users of one page: with the largest profiles, half an answer.
pub const APP_USERS_LIST_MAX: u32 = 200;
/// Sessions of one of them: more devices than anybody has. The oldest ends when another begins.
pub const APP_USER_SESSIONS_MAX: i64 = 50;
/// Passwords of an app's users that are hashed or compared in a minute: at about 25 ms, a quarter of a core.
pub const APP_PASSWORDS_PER_MINUTE: u32 = 600;
/// Wrong ones among them before strangers wait, so that those who came before still get in.
pub const APP_GUESSES_PER_MINUTE: u32 = 120;

/// Operations of one `atomic::commit`: each holds a lock until the last is done.
pub const ATOMIC_OPS_MAX: usize = 100;

/// Rows of its app's data that one execution may read and change: a hundred full pages, and what the
/// answers have room for at 670 bytes each.
pub const ROWS_MAX: u32 = 100_000;
/// Events that one execution may cause, one for each trigger that hears of it: what keeps a script that
/// answers events with events from growing them a thousandfold at each step.
pub const EVENTS_MAX: u32 = 1_000;

/// What an app keeps in `kv` and `docs` unless its budget says otherwise, in bytes as the database stores them: what a
/// small disk has for one of several apps, and what the database still backs up in minutes.
pub const DATA_BYTES_MAX: i64 = 4 << 30;

/// Requests to the world that one execution may make: who asks more often polls.
pub const OUTBOUND_REQUESTS_MAX: u32 = 50;
/// The same of an app's executions at once, and in a minute: a neighbourly share of the line.
pub const OUTBOUND_CONCURRENT_MAX: usize = 8;
pub const OUTBOUND_PER_MINUTE_MAX: u32 = 600;
/// Body of an answer of the world, unpacked: with its headers it fits an answer to a call.
pub const OUTBOUND_RESPONSE_BYTES_MAX: usize = HOST_REPLY_BYTES_MAX - (512 << 10);

/// Mails that one execution may send: who writes to more people does it by a queue.
pub const EMAILS_MAX: u32 = 10;
/// The same of an app's executions at once, and in a minute: what a small mail server takes from one client
/// without suspecting it.
pub const EMAILS_CONCURRENT_MAX: usize = 4;
pub const EMAILS_PER_MINUTE_MAX: u32 = 30;
/// Who gets one mail, copies included: half of what every server must take (RFC 5321).
pub const EMAIL_RECIPIENTS_MAX: usize = 50;
/// Subject of a mail: a line of a message (RFC 5322).
pub const EMAIL_SUBJECT_BYTES_MAX: usize = 998;
/// Name beside an address, which is for reading.
pub const EMAIL_NAME_BYTES_MAX: usize = 128;
/// Files of a mail; how long they are is bounded by what a call's arguments may be.
pub const EMAIL_ATTACHMENTS_MAX: usize = 10;

/// Headers of a response: count and bytes of names and values together.
pub const RESPONSE_HEADERS_MAX: usize = 64;
pub const RESPONSE_HEADER_BYTES_MAX: usize = 16 << 10;

/// Longest message of a script error that is kept.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Nesting of JSON that the platform accepts.
pub const JSON_DEPTH_MAX: usize = 64;

/// Body of a frame that carries a host call. Checked before a byte of it is read.
pub const HOST_CALL_BYTES_MAX: usize = 1 << 20;
/// Answer of a host call: as much as fits the smaller memories beside the script.
pub const HOST_REPLY_BYTES_MAX: usize = 4 << 20;
/// What a result may carry besides the body: headers, an error message, fixed fields.
pub const RESULT_OVERHEAD_BYTES: usize = RESPONSE_HEADER_BYTES_MAX + ERROR_MESSAGE_BYTES_MAX + 1024;
/// Largest body of any frame from a worker.
pub const FRAME_FROM_WORKER_BYTES_MAX: usize = RESPONSE_BYTES_MAX as usize + RESULT_OVERHEAD_BYTES;
/// Largest body of any frame to a worker: the largest request with its headers.
pub const FRAME_TO_WORKER_BYTES_MAX: usize = BODY_BYTES_MAX as usize + (128 << 10);

/// How long after its deadline an execution that ignores it is ended by killing its worker.
pub const KILL_GRACE_MS: u64 = 250;
/// How long a graceful stop waits for running executions.
pub const DRAIN_MS: u64 = 30_000;

const _: () = {
    assert!(FUEL_MIN < FUEL_DEFAULT && FUEL_DEFAULT <= FUEL_MAX);
    assert!(MEMORY_MB_MIN < MEMORY_MB_DEFAULT && MEMORY_MB_DEFAULT <= MEMORY_MB_MAX);
    assert!(TIMEOUT_MS_MIN < TIMEOUT_MS_DEFAULT && TIMEOUT_MS_DEFAULT <= TIMEOUT_MS_MAX);
    assert!(RESPONSE_BYTES_DEFAULT <= RESPONSE_BYTES_MAX && BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);
    assert!(BODIES_BYTES_MIN / 2 >= BODY_BYTES_MAX as u64);
    assert!(SOURCE_BYTES_MAX <= BUNDLE_BYTES_MAX && BUNDLE_BYTES_MAX < FRAME_TO_WORKER_BYTES_MAX);
    // An import is a name, its length, and two numbers.
    assert!(MODULES_MAX * (NAME_BYTES_MAX + 2 + 5 + 5) <= RESULT_OVERHEAD_BYTES);
    assert!(BUNDLE_BYTES_MAX < REBUNDLE_BYTES_MAX);
    // Every secret can be used, also one that JSON makes six times as long: it is remembered in both forms.
    assert!(8 * SECRET_BYTES_MAX < CONFIDENTIAL_BYTES_MAX && PASSWORD_BYTES_MAX < SECRET_BYTES_MAX);
    assert!(FILE_UPLOADS_MAX < APP_UPLOADS_MAX && APP_UPLOADS_MAX < FILES_UPLOADS_MAX);
    assert!(HOST_CALL_BYTES_MAX <= FRAME_FROM_WORKER_BYTES_MAX);
    assert!(HOST_REPLY_BYTES_MAX < FRAME_TO_WORKER_BYTES_MAX);
};

/// The limits one version of a script runs under, all of them resolved and within the ceilings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScriptLimits {
    pub fuel: u64,
    pub memory_mb: u32,
    pub timeout_ms: u32,
    pub max_operations: u64,
    pub max_call_levels: u32,
    pub max_expr_depth: u32,
    pub response_bytes: u32,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self {
            fuel: FUEL_DEFAULT,
            memory_mb: MEMORY_MB_DEFAULT,
            timeout_ms: TIMEOUT_MS_DEFAULT,
            max_operations: MAX_OPERATIONS_DEFAULT,
            max_call_levels: MAX_CALL_LEVELS_DEFAULT,
            max_expr_depth: MAX_EXPR_DEPTH_DEFAULT,
            response_bytes: RESPONSE_BYTES_DEFAULT,
        }
    }
}

impl ScriptLimits {
    /// The limits for compiling a bundle rather than running it.
    pub fn for_compilation(self) -> Self {
        Self { fuel: COMPILE_FUEL, memory_mb: COMPILE_MEMORY_MB, timeout_ms: COMPILE_TIMEOUT_MS, ..self }
    }
}

/// What a deploy may set; what is absent keeps the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LimitsPatch {
    #[cfg_attr(feature = "schema", schemars(range(min = FUEL_MIN, max = FUEL_MAX)))]
    pub fuel: Option<u64>,
    #[cfg_attr(feature = "schema", schemars(range(min = MEMORY_MB_MIN, max = MEMORY_MB_MAX)))]
    pub memory_mb: Option<u32>,
    #[cfg_attr(feature = "schema", schemars(range(min = TIMEOUT_MS_MIN, max = TIMEOUT_MS_MAX)))]
    pub timeout_ms: Option<u32>,
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_OPERATIONS_MAX)))]
    pub max_operations: Option<u64>,
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_CALL_LEVELS_MAX)))]
    pub max_call_levels: Option<u32>,
    #[cfg_attr(feature = "schema", schemars(range(min = MAX_EXPR_DEPTH_MIN, max = MAX_EXPR_DEPTH_MAX)))]
    pub max_expr_depth: Option<u32>,
    #[cfg_attr(feature = "schema", schemars(range(max = RESPONSE_BYTES_MAX)))]
    pub response_bytes: Option<u32>,
}

/// A limit outside its range, with everything needed to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {field} is {value}; it may be {floor} to {ceiling}")]
pub struct LimitOutOfRange {
    pub field: &'static str,
    pub value: u64,
    pub floor: u64,
    pub ceiling: u64,
}

impl LimitsPatch {
    /// Fills in the defaults and checks every value against its ceiling.
    pub fn resolve(self) -> Result<ScriptLimits, LimitOutOfRange> {
        let base = ScriptLimits::default();
        let limits = ScriptLimits {
            fuel: self.fuel.unwrap_or(base.fuel),
            memory_mb: self.memory_mb.unwrap_or(base.memory_mb),
            timeout_ms: self.timeout_ms.unwrap_or(base.timeout_ms),
            max_operations: self.max_operations.unwrap_or(base.max_operations),
            max_call_levels: self.max_call_levels.unwrap_or(base.max_call_levels),
            max_expr_depth: self.max_expr_depth.unwrap_or(base.max_expr_depth),
            response_bytes: self.response_bytes.unwrap_or(base.response_bytes),
        };
        check("fuel", limits.fuel, FUEL_MIN, FUEL_MAX)?;
        check("memory_mb", limits.memory_mb.into(), MEMORY_MB_MIN.into(), MEMORY_MB_MAX.into())?;
        check("timeout_ms", limits.timeout_ms.into(), TIMEOUT_MS_MIN.into(), TIMEOUT_MS_MAX.into())?;
        check("max_operations", limits.max_operations, 0, MAX_OPERATIONS_MAX)?;
        check("max_call_levels", limits.max_call_levels.into(), 1, MAX_CALL_LEVELS_MAX.into())?;
        check(
            "max_expr_depth",
            limits.max_expr_depth.into(),
            MAX_EXPR_DEPTH_MIN.into(),
            MAX_EXPR_DEPTH_MAX.into(),
        )?;
        check("response_bytes", limits.response_bytes.into(), 0, RESPONSE_BYTES_MAX.into())?;
        Ok(limits)
    }
}

fn check(field: &'static str, value: u64, floor: u64, ceiling: u64) -> Result<(), LimitOutOfRange> {
    if (floor..=ceiling).contains(&value) {
        return Ok(());
    }
    Err(LimitOutOfRange { field, value, floor, ceiling })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_gives_the_defaults() {
        assert_eq!(LimitsPatch::default().resolve(), Ok(ScriptLimits::default()));
    }

    #[test]
    fn a_value_above_the_ceiling_names_field_value_and_ceiling() {
        let patch = LimitsPatch { memory_mb: Some(257), ..LimitsPatch::default() };
        let error = patch.resolve().unwrap_err();
        assert_eq!((error.field, error.value, error.ceiling), ("memory_mb", 257, 256));
        assert_eq!(error.to_string(), "limit memory_mb is 257; it may be 2 to 256");
    }

    /// Each limit that a deploy may set, with its range.
    const RANGES: [(&str, u64, u64); 7] = [
        ("fuel", FUEL_MIN, FUEL_MAX),
        ("memory_mb", MEMORY_MB_MIN as u64, MEMORY_MB_MAX as u64),
        ("timeout_ms", TIMEOUT_MS_MIN as u64, TIMEOUT_MS_MAX as u64),
        ("max_operations", 0, MAX_OPERATIONS_MAX),
        ("max_call_levels", 1, MAX_CALL_LEVELS_MAX as u64),
        ("max_expr_depth", MAX_EXPR_DEPTH_MIN as u64, MAX_EXPR_DEPTH_MAX as u64),
        ("response_bytes", 0, RESPONSE_BYTES_MAX as u64),
    ];

    /// Sets one limit, as a deploy does.
    fn set(field: &str, value: u64) -> Result<ScriptLimits, LimitOutOfRange> {
        let narrow = || Some(u32::try_from(value).unwrap());
        let mut patch = LimitsPatch::default();
        match field {
            "fuel" => patch.fuel = Some(value),
            "memory_mb" => patch.memory_mb = narrow(),
            "timeout_ms" => patch.timeout_ms = narrow(),
            "max_operations" => patch.max_operations = Some(value),
            "max_call_levels" => patch.max_call_levels = narrow(),
            "max_expr_depth" => patch.max_expr_depth = narrow(),
            "response_bytes" => patch.response_bytes = narrow(),
            other => panic!("{other} is no limit"),
        }
        patch.resolve()
    }

    #[test]
    fn each_limit_is_taken_at_its_bounds_and_refused_one_beyond() {
        for (field, floor, ceiling) in RANGES {
            assert!(set(field, floor).is_ok(), "{field} at its floor");
            assert!(set(field, ceiling).is_ok(), "{field} at its ceiling");
            for value in floor.checked_sub(1).into_iter().chain([ceiling + 1]) {
                let refused = LimitOutOfRange { field, value, floor, ceiling };
                assert_eq!(set(field, value), Err(refused));
            }
        }
    }

    #[test]
    fn a_value_at_the_ceiling_passes() {
        let patch = LimitsPatch {
            fuel: Some(FUEL_MAX),
            memory_mb: Some(MEMORY_MB_MAX),
            timeout_ms: Some(TIMEOUT_MS_MAX),
            max_operations: Some(MAX_OPERATIONS_MAX),
            max_call_levels: Some(MAX_CALL_LEVELS_MAX),
            max_expr_depth: Some(MAX_EXPR_DEPTH_MAX),
            response_bytes: Some(RESPONSE_BYTES_MAX),
        };
        assert!(patch.resolve().is_ok());
    }
}
