//! `time`: the execution's clock, which stands still while the script computes, and the calendar.
//!
//! A moment is an integer, milliseconds since 1970 in UTC. Wherever one is expected, the text form
//! of RFC 3339 does as well. A zone is a name of the IANA database, all of which is in the guest.

use std::cell::RefCell;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit, ZonedDateTime, ZonedDateTimeDifference};
use rhai::{Dynamic, Engine, EvalAltResult, Map, Module};

use crate::{Result, failure, host, invalid, require_run, zones};

/// What the build script wrote.
const ZONES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zones.bin"));
const UTC: &str = "UTC";
/// RFC 3339 with milliseconds, in UTC and elsewhere.
const RFC_3339_UTC: &str = "%Y-%m-%dT%H:%M:%S.%3fZ";
const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S.%3f%:z";

thread_local! {
    /// What the execution used last: most use one, and unpacking it takes longer than using it.
    static LAST_ZONE: RefCell<Option<TimeZone>> = const { RefCell::new(None) };
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("now_ms", now_ms);
    module.set_native_fn("now", || text(moment(now_ms()?)?, UTC));
    module.set_native_fn("now", |zone: &str| text(moment(now_ms()?)?, zone));
    module.set_native_fn("format", |time: Dynamic, pattern: &str| format(&time, pattern, UTC));
    module.set_native_fn("format", |time: Dynamic, pattern: &str, zone: &str| format(&time, pattern, zone));
    module.set_native_fn("parse", |text: &str| Ok(parse_text(text)?.as_millisecond()));
    module.set_native_fn("parse", |text: &str, pattern: &str| parse(text, pattern, UTC));
    module.set_native_fn("parse", parse);
    module.set_native_fn("add", |time: Dynamic, span: Map| add(&time, &span, UTC));
    module.set_native_fn("add", |time: Dynamic, span: Map, zone: &str| add(&time, &span, zone));
    module.set_native_fn("diff", |later: Dynamic, earlier: Dynamic| {
        Ok(instant(&later)?.as_millisecond() - instant(&earlier)?.as_millisecond())
    });
    module.set_native_fn("diff", |later: Dynamic, earlier: Dynamic, unit: &str| {
        diff(&later, &earlier, unit, UTC)
    });
    module.set_native_fn("diff", |later: Dynamic, earlier: Dynamic, unit: &str, zone: &str| {
        diff(&later, &earlier, unit, zone)
    });
    module.set_native_fn("parts", |time: Dynamic| parts(&time, UTC));
    module.set_native_fn("parts", |time: Dynamic, zone: &str| parts(&time, zone));
    engine.register_static_module("time", module.into());
}

fn now_ms() -> Result<i64> {
    require_run()?;
    Ok(host::now_ms())
}

fn moment(ms: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(unfit)
}

fn instant(time: &Dynamic) -> Result<Timestamp> {
    if let Ok(ms) = time.as_int() {
        return moment(ms);
    }
    match time.as_immutable_string_ref() {
        Ok(text) => parse_text(&text),
        Err(kind) => Err(invalid(format!("a time is milliseconds or RFC 3339 text, not {kind}"))),
    }
}

fn parse_text(text: &str) -> Result<Timestamp> {
    text.parse().map_err(unfit)
}

fn time_zone(name: &str) -> Result<TimeZone> {
    if name == UTC {
        return Ok(TimeZone::UTC);
    }
    LAST_ZONE.with_borrow_mut(|last| {
        if let Some(zone) = last.as_ref().filter(|zone| zone.iana_name() == Some(name)) {
            return Ok(zone.clone());
        }
        let (known, data) =
            zones::find(ZONES, name).ok_or_else(|| invalid(format!("there is no time zone {name}")))?;
        let zone = TimeZone::tzif(known, &data).map_err(unfit)?;
        Ok(last.insert(zone).clone())
    })
}

fn zoned(time: &Dynamic, zone: &str) -> Result<ZonedDateTime> {
    Ok(instant(time)?.to_zoned_datetime(time_zone(zone)?))
}

fn text(time: Timestamp, zone: &str) -> Result<String> {
    let pattern = if zone == UTC { RFC_3339_UTC } else { RFC_3339 };
    written(&time.to_zoned_datetime(time_zone(zone)?), pattern)
}

fn format(time: &Dynamic, pattern: &str, zone: &str) -> Result<String> {
    written(&zoned(time, zone)?, pattern)
}

fn written(time: &ZonedDateTime, pattern: &str) -> Result<String> {
    BrokenDownTime::from(time).to_string(pattern).map_err(unfit)
}

/// `zone` is where the text means to be unless it has an offset of its own.
fn parse(text: &str, pattern: &str, zone: &str) -> Result<i64> {
    let found = BrokenDownTime::parse(pattern, text).map_err(unfit)?;
    if let Ok(exact) = found.to_timestamp() {
        return Ok(exact.as_millisecond());
    }
    let civil = found.to_datetime().map_err(unfit)?;
    let zoned = civil.to_zoned_datetime(time_zone(zone)?).map_err(unfit)?;
    Ok(zoned.timestamp().as_millisecond())
}

fn add(time: &Dynamic, span: &Map, zone: &str) -> Result<i64> {
    // A span has one sign for all of its units.
    let mut spans = [Span::new(), Span::new()];
    for (name, count) in span {
        let count = count.as_int().map_err(|kind| invalid(format!("{name} is {kind}, not an integer")))?;
        let sum = &mut spans[usize::from(count < 0)];
        *sum = match name.as_str() {
            "years" => sum.try_years(count),
            "months" => sum.try_months(count),
            "weeks" => sum.try_weeks(count),
            "days" => sum.try_days(count),
            "hours" => sum.try_hours(count),
            "minutes" => sum.try_minutes(count),
            "seconds" => sum.try_seconds(count),
            "ms" => sum.try_milliseconds(count),
            _ => return Err(invalid(format!("there is no unit {name}"))),
        }
        .map_err(unfit)?;
    }
    let [forward, back] = spans;
    let moved = zoned(time, zone)?.checked_add(forward).map_err(unfit)?.checked_add(back).map_err(unfit)?;
    Ok(moved.timestamp().as_millisecond())
}

/// Whole units from `earlier` to `later`, as the calendar of the zone counts them.
fn diff(later: &Dynamic, earlier: &Dynamic, unit: &str, zone: &str) -> Result<i64> {
    let smallest = match unit {
        "years" => Unit::Year,
        "months" => Unit::Month,
        "weeks" => Unit::Week,
        "days" => Unit::Day,
        "hours" => Unit::Hour,
        "minutes" => Unit::Minute,
        "seconds" => Unit::Second,
        "ms" => Unit::Millisecond,
        _ => return Err(invalid(format!("there is no unit {unit}"))),
    };
    let zone = time_zone(zone)?;
    let later = instant(later)?.to_zoned_datetime(zone.clone());
    let until = ZonedDateTimeDifference::new(&later).smallest(smallest).largest(smallest);
    let span = instant(earlier)?.to_zoned_datetime(zone).until(until).map_err(unfit)?;
    Ok(match smallest {
        Unit::Year => span.get_years().into(),
        Unit::Month => span.get_months().into(),
        Unit::Week => span.get_weeks().into(),
        Unit::Day => span.get_days().into(),
        Unit::Hour => span.get_hours().into(),
        Unit::Minute => span.get_minutes(),
        Unit::Second => span.get_seconds(),
        _ => span.get_milliseconds(),
    })
}

fn parts(time: &Dynamic, zone: &str) -> Result<Map> {
    let time = zoned(time, zone)?;
    let mut parts = Map::new();
    let mut set = |name: &str, value: i64| parts.insert(name.into(), value.into());
    set("year", time.year().into());
    set("month", time.month().into());
    set("day", time.day().into());
    set("hour", time.hour().into());
    set("minute", time.minute().into());
    set("second", time.second().into());
    set("ms", time.millisecond().into());
    // As in ISO 8601.
    set("weekday", time.weekday().to_monday_one_offset().into());
    set("day_of_year", time.day_of_year().into());
    set("offset_minutes", i64::from(time.offset().seconds()) / 60);
    Ok(parts)
}

fn unfit(error: jiff::Error) -> Box<EvalAltResult> {
    failure("invalid_time", error.to_string())
}
