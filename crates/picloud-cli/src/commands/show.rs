//! How values of the API read in tables and lines.

use serde_json::Value;

use shared::capabilities::Capabilities;

use crate::api::{Awaiting, Execution, LogLine};
use crate::failure::Failure;
use crate::output::{Output, Stream, TableCell, Tone, visible_line};

/// `kv, http (api.example.com), secrets (token)`; empty when a script asks for nothing.
pub(crate) fn capabilities(found: &Capabilities) -> String {
    let listed = |names: &std::collections::BTreeSet<String>| {
        names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let namespaces = found.namespaces.iter().map(|namespace| {
        let details = match namespace.as_str() {
            "http" => &found.destinations,
            "secrets" => &found.secrets,
            _ => return namespace.clone(),
        };
        if details.is_empty() { namespace.clone() } else { format!("{namespace} ({})", listed(details)) }
    });
    visible_line(&namespaces.collect::<Vec<_>>().join(", "))
}

/// That a version is not live, and what makes it.
pub(crate) fn awaiting(out: &Output, app: &str, name: &str, awaiting: &Awaiting) -> Result<(), Failure> {
    let Awaiting { version, unapproved } = awaiting;
    let waits = out.stdout.paint(Tone::Warning, "waits for approval");
    let wants = visible_line(&unapproved.join(", "));
    out.line(&format!("{name} version {version} {waits} in app {app}: {wants}."))?;
    out.note(&format!(
        "An admin of the app makes it live: `pic scripts approve {name} {version} --app {app}`."
    ));
    Ok(())
}

/// A time as the server tells it (RFC 3339 in UTC), to the second.
pub(crate) fn time(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 19 && text.ends_with(['Z', 'z']) && text.is_char_boundary(19) => {
            format!("{}Z", text[..19].replace('T', " "))
        }
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// A large count in three digits: `987`, `12.3k`, `4.56M`, `10.0G`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn count(number: u64) -> String {
    let mut scaled = number as f64;
    if scaled < 1000.0 {
        return number.to_string();
    }
    let mut units = ["k", "M", "G", "T", "P", "E"].iter();
    let mut unit = "";
    // 999.95 would be printed as 1000.0.
    while scaled >= 999.5 {
        let Some(next) = units.next() else { break };
        unit = next;
        scaled /= 1000.0;
    }
    let digits = if scaled < 9.995 { 2 } else { usize::from(scaled < 99.95) };
    format!("{scaled:.digits$}{unit}")
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub(crate) fn milliseconds(duration: f64) -> String {
    let digits = if duration < 10.0 { 2 } else { usize::from(duration < 100.0) };
    format!("{duration:.digits$} ms")
}

pub(crate) fn status_tone(status: &str) -> Tone {
    if status == "ok" { Tone::Good } else { Tone::Bad }
}

pub(crate) fn status(status: &str) -> TableCell {
    TableCell::toned(status, status_tone(status))
}

/// `ok, 2 ms, 1.2M fuel, 1.1 MiB`.
pub(crate) fn cost(execution: &Execution) -> String {
    format!(
        "{}, {} fuel, {}",
        milliseconds(execution.duration_ms),
        count(execution.fuel),
        mebibytes(execution.peak_memory_bytes)
    )
}

/// A log line, with its data behind it.
pub(crate) fn log_line(stream: Stream, line: &LogLine) -> String {
    let tone = match line.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Warning,
        "trace" => Tone::Faint,
        _ => Tone::Strong,
    };
    let level = format!("{:<5}", visible_line(&line.level).to_uppercase());
    let data = line.data().map_or_else(String::new, |data| format!(" {}", visible_line(&data)));
    format!(
        "{} {}{}",
        stream.paint(tone, &level),
        visible_line(&line.message),
        stream.paint(Tone::Faint, &data)
    )
}

/// A unified diff, in colour where there is colour.
pub(crate) fn diff(out: &Output, diff: &str) -> Result<(), Failure> {
    for line in diff.lines() {
        let tone = match line.as_bytes().first() {
            _ if line.starts_with("+++ ") || line.starts_with("--- ") => Some(Tone::Strong),
            Some(b'+') => Some(Tone::Good),
            Some(b'-') => Some(Tone::Bad),
            Some(b'@') => Some(Tone::Faint),
            _ => None,
        };
        let text = visible_line(line);
        out.line(&tone.map_or_else(|| text.as_str().into(), |tone| out.stdout.paint(tone, &text)))?;
    }
    Ok(())
}

/// What the server wants the author to know about a deploy.
pub(crate) fn warnings(out: &Output, warnings: &[Value]) {
    for warning in warnings {
        let text = warning.get("message").unwrap_or(warning);
        out.warn(&text.as_str().map_or_else(|| text.to_string(), ToOwned::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_have_three_digits() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (12_345, "12.3k"),
            (999_499, "999k"),
            (999_999, "1.00M"),
            (10_000_000_000, "10.0G"),
            (u64::MAX, "18.4E"),
        ];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(time(&json!("2026-01-02T03:04:05.678901Z")), "2026-01-02 03:04:05Z");
        assert_eq!(time(&json!("2026-01-02T03:04:05Z")), "2026-01-02 03:04:05Z");
        assert_eq!(time(&json!("2026-01-02T03:04:05+02:00")), "2026-01-02T03:04:05+02:00");
        assert_eq!(time(&Value::Null), "-");
    }

    #[test]
    fn durations_keep_what_matters() {
        assert_eq!(milliseconds(0.4321), "0.43 ms");
        assert_eq!(milliseconds(43.21), "43.2 ms");
        assert_eq!(milliseconds(4321.0), "4321 ms");
    }
}
