//! W3C Trace Context: which trace a request belongs to, and which step of it is ours. Only the parent
//! knows of it; version 00 is written, and every later version is read as far as 00 goes.

use std::fmt;
use std::time::{Duration, SystemTime};

/// The header that carries it in both directions.
pub const TRACEPARENT: &str = "traceparent";

/// A step of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: u128,
    /// This step's id.
    pub span: u64,
    /// The step that led to it; zero for the first.
    pub parent: u64,
    flags: u8,
}

/// A step that has ended, of a trace that somebody records.
#[derive(Debug)]
pub struct Span<'a> {
    pub context: TraceContext,
    /// Whether it answers a request from outside.
    pub is_server: bool,
    pub name: &'a str,
    pub started: SystemTime,
    pub took: Duration,
    /// Named as OpenTelemetry's conventions name them; ours begin with `picloud.`.
    pub attributes: &'a [(&'static str, Attribute<'a>)],
    /// What went wrong, if the platform or the script is to blame.
    pub failure: Option<&'a str>,
}

/// What is said of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute<'a> {
    Text(&'a str),
    Number(i64),
}

/// The only flag there is: somebody upstream records this trace.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// The first step of a new trace, which nobody asked to record.
    pub fn new() -> Self {
        Self { trace: uuid::Uuid::new_v4().as_u128(), span: span(), parent: 0, flags: 0 }
    }

    /// The first step of a trace that is recorded with this probability.
    pub fn sampled(percent: u8) -> Self {
        let new = Self::new();
        // The trace's id is random, so a remainder of it is too; 2^128 is large enough for no bias to show.
        let is_sampled = new.trace % 100 < u128::from(percent);
        Self { flags: if is_sampled { SAMPLED } else { 0 }, ..new }
    }

    /// A step that this one leads to.
    pub fn child(self) -> Self {
        Self { span: span(), parent: self.span, ..self }
    }

    /// Whether the steps of this trace are recorded.
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Our step of the trace that a caller began. Nothing when the header is malformed: then, says the
    /// standard, a new trace begins.
    pub fn following(header: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(header).ok()?;
        let (version, rest) = (text.get(..2)?, text.get(2..)?);
        let is_version = is_lower_hex(version) && version != "ff";
        // A later version may go on behind the flags, and only behind another dash.
        let is_long_enough = match version {
            "00" => rest.len() == 53,
            _ => rest.len() == 53 || rest.get(53..)?.starts_with('-'),
        };
        let fields =
            (rest.get(..1)?, rest.get(1..33)?, rest.get(33..34)?, rest.get(34..50)?, rest.get(50..51)?);
        let ("-", trace, "-", parent, "-") = fields else { return None };
        let flags = rest.get(51..53)?;
        if !is_version || !is_long_enough || ![trace, parent, flags].into_iter().all(is_lower_hex) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let parent = u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()? & SAMPLED;
        Some(Self { trace, span: span(), parent, flags })
    }

    /// The trace's id as logs write it.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

fn span() -> u64 {
    // Half of a random UUID: 62 random bits. Zero would mean no span.
    #[expect(clippy::cast_possible_truncation, reason = "the half that is kept")]
    let half = uuid::Uuid::new_v4().as_u128() as u64;
    half.max(1)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_trace_goes_on_with_a_step_of_our_own() {
        let ours = TraceContext::following(GOOD.as_bytes()).unwrap();
        assert_eq!(ours.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(ours.span, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(ours.parent, 0x00f0_67aa_0ba9_02b7);
        let next = ours.child();
        assert_eq!((next.trace, next.parent, next.is_sampled()), (ours.trace, ours.span, true));
        assert!(ours.to_string().ends_with("-01"));
        let later = GOOD.replacen("00", "cc", 1) + "-what-the-future-brings";
        assert!(TraceContext::following(later.as_bytes()).is_some());
    }

    #[test]
    fn what_is_no_trace_is_not_taken_over() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let version_ff = GOOD.replacen("00", "ff", 1);
        let (upper, longer) = (GOOD.to_uppercase(), format!("{GOOD}-x"));
        for bad in ["", "00", "00-ä", zero_trace, zero_span, &version_ff, &upper, &longer, &GOOD[..54]] {
            assert_eq!(TraceContext::following(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn about_as_many_new_traces_are_recorded_as_asked_for() {
        let recorded = |percent| (0..2_000).filter(|_| TraceContext::sampled(percent).is_sampled()).count();
        assert_eq!((recorded(0), recorded(100)), (0, 2_000));
        // Six standard deviations, once in a billion runs.
        assert!((366..=634).contains(&recorded(25)));
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(_ in 0..64) {
            let text = TraceContext::new().to_string();
            prop_assert_eq!(text.len(), 55);
            prop_assert_eq!(TraceContext::following(text.as_bytes()).unwrap().trace_id(), &text[3..35]);
        }

        #[test]
        fn any_header_is_read_or_passed_over(bytes: Vec<u8>) {
            let _ = TraceContext::following(&bytes);
        }

        #[test]
        fn any_change_of_a_good_header_is_read_or_passed_over(at in 0..55_usize, byte: u8) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = TraceContext::following(&bytes);
        }
    }
}
