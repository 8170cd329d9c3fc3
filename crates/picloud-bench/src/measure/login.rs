//! Logins: whether their time tells who has an account, and what a storm of them does to everybody else.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;

use super::Bench;
use crate::load::Histogram;
use crate::process;
use crate::report::{Bound, Report, median};
use crate::subject::{Admin, Picloud, attempt};

/// Each name and each address is tried once, or the limits on guessing would answer.
const SETTINGS: [(&str, &str); 2] =
    [("PICLOUD_TRUSTED_PROXIES", "127.0.0.1"), ("PICLOUD_API_REQUESTS_PER_MINUTE", "1000000")];
const STORM: u32 = 200;
/// Memory is looked at this often while a storm lasts.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    report.heading("Logins");
    let mut picloud = Picloud::start_with(bench.binary.as_deref(), &SETTINGS)?;
    let admin = picloud.admin()?;
    let addresses = AtomicU32::new(u32::from(Ipv4Addr::new(10, 0, 0, 1)));
    let next = || Ipv4Addr::from(addresses.fetch_add(1, Ordering::Relaxed));
    timing(&picloud, &admin, bench.plan.login_names, &next, report)?;
    storms(&picloud, &admin, bench.plan.login_storms, &next, report)?;
    picloud.stop()
}

/// Wrong passwords for names that there are and for names that there are not, in turn.
fn timing(
    picloud: &Picloud,
    admin: &Admin,
    names: usize,
    next: &dyn Fn() -> Ipv4Addr,
    report: &mut Report,
) -> anyhow::Result<()> {
    for n in 0..names {
        admin.make_person(&format!("known-{n}"), "a long one for the bench")?;
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for n in 0..names {
        // Who goes first alternates, so that neither always finds the caches warm.
        let mut turns = [("known", &mut known), ("nobody", &mut unknown)];
        if n % 2 == 1 {
            turns.reverse();
        }
        for (word, times) in turns {
            let begun = Instant::now();
            let status = attempt(picloud.address, &format!("{word}-{n}"), next())?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(status == 401, "an attempt to log in was answered {status}");
        }
    }
    let (known, unknown) = (median(known), median(unknown));
    let apart = (known - unknown).abs() / known.min(unknown) * 100.0;
    report.line(format_args!(
        "  a wrong password: known names {known:.2} ms, unknown names {unknown:.2} ms, {apart:.1} % apart ({names} each)"
    ));
    report.goal("login: known and unknown names apart", apart, Bound::AtMost(5.0), "%");
    report.keep("login_timing", json!({ "known_ms": known, "unknown_ms": unknown, "apart_percent": apart }));
    Ok(())
}

fn storms(
    picloud: &Picloud,
    admin: &Admin,
    storms: u32,
    next: &(dyn Fn() -> Ipv4Addr + Sync),
    report: &mut Report,
) -> anyhow::Result<()> {
    let resident_mib =
        || Ok::<_, anyhow::Error>(process::memory(picloud.pid())?.resident_kib as f64 / 1024.0);
    let before = resident_mib()?;
    let is_over = AtomicBool::new(false);
    let (checked, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    let (most, others) = std::thread::scope(|scope| {
        let others = scope.spawn(|| calls_until(&is_over, admin));
        let most = scope.spawn(|| {
            let mut most = before;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(resident_mib()?);
                std::thread::sleep(LOOK_EVERY);
            }
            Ok::<_, anyhow::Error>(most)
        });
        let stormed = (0..storms).try_for_each(|storm| {
            let attempts: Vec<_> = (0..STORM)
                .map(|n| scope.spawn(move || attempt(picloud.address, &format!("storm-{storm}-{n}"), next())))
                .collect();
            attempts.into_iter().try_for_each(|attempt| {
                match attempt.join().map_err(|_| anyhow::anyhow!("an attempt panicked"))?? {
                    401 => checked.fetch_add(1, Ordering::Relaxed),
                    429 => refused.fetch_add(1, Ordering::Relaxed),
                    other => anyhow::bail!("an attempt to log in was answered {other}"),
                };
                Ok(())
            })
        });
        is_over.store(true, Ordering::Relaxed);
        stormed?;
        let joined = |_| anyhow::anyhow!("a thread of the bench panicked");
        Ok::<_, anyhow::Error>((most.join().map_err(joined)??, others.join().map_err(joined)??))
    })?;
    let after = resident_mib()?;
    let p99 = others.percentile(99.0).as_secs_f64() * 1e3;
    let (checked, refused) = (checked.into_inner(), refused.into_inner());
    report.line(format_args!(
        "  {storms} times {STORM} at once: {checked} compared, {refused} told to wait; {before:.0} MiB before, \
         {most:.0} at most, {after:.0} after; {} other calls, p99 {p99:.1} ms",
        others.count()
    ));
    report.goal("login storm: memory that comes on top", most - before, Bound::AtMost(50.0), "MiB");
    report.goal("login storm: memory that stays", (after - before).abs(), Bound::AtMost(50.0), "MiB");
    report.goal("login storm: p99 of other calls", p99, Bound::AtMost(500.0), "ms");
    report.keep(
        "login_storm",
        json!({ "before_mib": before, "most_mib": most, "after_mib": after, "others_p99_ms": p99,
            "compared": checked, "told_to_wait": refused }),
    );
    Ok(())
}

/// What somebody who is logged in does meanwhile.
fn calls_until(is_over: &AtomicBool, admin: &Admin) -> anyhow::Result<Histogram> {
    let mut times = Histogram::default();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        admin.apps().context("another call during the storm")?;
        times.add(begun.elapsed());
    }
    Ok(times)
}
