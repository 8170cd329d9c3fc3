//! `pic triggers`: what makes scripts run besides requests.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::name::{ScriptName, TriggerName};

use crate::api::{self, Page};
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{TableCell, Tone, visible_line};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the triggers of an app.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Make a trigger: `pic triggers add cron report schedule='0 7 * * MON' timezone=Europe/Vienna`.
    Add {
        #[arg(value_parser = KINDS)]
        kind: String,
        /// The script that it runs.
        script: ScriptName,
        /// What the kind asks for, as `field=value`; the value is JSON, or else text.
        #[arg(value_name = "FIELD=VALUE", value_parser = setting)]
        config: Vec<(String, Value)>,
        /// What to call it.
        #[arg(long)]
        name: Option<TriggerName>,
        /// How often an event is tried before it is given up.
        #[arg(long, value_name = "NUMBER")]
        attempts: Option<u16>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Show a trigger, and of a cron trigger when it comes next.
    Show {
        /// As `pic triggers ls` shows it.
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Change what a trigger waits for, field by field: `pic triggers set ID secrets='["NEW", "OLD"]'`.
    Set {
        id: String,
        /// As for `add`; `null` takes a field away.
        #[arg(required = true, value_name = "FIELD=VALUE", value_parser = setting)]
        config: Vec<(String, Value)>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Switch a trigger on.
    Enable {
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Switch a trigger off.
    Disable {
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Run a trigger now, as if what it waits for had happened.
    Run {
        id: String,
        /// What is to have happened, as JSON; a cron trigger needs none.
        #[arg(long, value_name = "JSON", value_parser = object)]
        event: Option<Map<String, Value>>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Put your own rights behind a trigger.
    TakeOver {
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
    /// Remove a trigger.
    Rm {
        id: String,
        #[command(flatten)]
        app: AppArg,
    },
}

const KINDS: [&str; 8] = ["cron", "kv", "docs", "files", "pubsub", "queue", "dead_letter", "webhook"];

#[derive(Debug, Deserialize)]
struct Trigger {
    id: String,
    #[serde(default)]
    name: Option<String>,
    kind: String,
    script: String,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    registered_by: Option<String>,
    #[serde(default)]
    paused: Option<String>,
    #[serde(default)]
    upcoming: Vec<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    missing_secrets: Vec<String>,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    match command {
        Command::Ls { app } => list(context, &client.triggers(app.as_str())?),
        Command::Add { kind, script, config, name, attempts, app } => {
            let config: Map<String, Value> = config.iter().cloned().collect();
            let mut body = json!({ "kind": kind, "script": script, "config": config });
            if let Some(name) = name {
                body["name"] = name.as_str().into();
            }
            if let Some(attempts) = attempts {
                body["retry"] = json!({ "max_attempts": attempts });
            }
            let answer = client.create_trigger(app.as_str(), &body)?;
            out.done(&answer, &format!("{script} runs on {kind} from now on."))?;
            show_webhook(context, &answer)
        }
        Command::Set { id, config, app } => {
            let trigger: Trigger = api::read(&client.trigger(app.as_str(), id)?)?;
            let change = json!({ "config": changed(trigger.config, config) });
            let answer = client.update_trigger(app.as_str(), id, &change)?;
            out.done(&answer, &format!("Changed trigger {id}, which runs with your rights from now on."))?;
            show_webhook(context, &answer)
        }
        Command::Show { id, app } => show(context, &client.trigger(app.as_str(), id)?),
        Command::Enable { id, app } => {
            let answer = client.update_trigger(app.as_str(), id, &json!({ "enabled": true }))?;
            out.done(&answer, &format!("Trigger {id} is on."))
        }
        Command::Disable { id, app } => {
            let answer = client.update_trigger(app.as_str(), id, &json!({ "enabled": false }))?;
            out.done(&answer, &format!("Trigger {id} is off; its events wait until it is on again."))
        }
        Command::Run { id, event, app } => {
            let answer = client.run_trigger(app.as_str(), id, &json!({ "event": event }))?;
            let delivery = answer["id"].as_str().unwrap_or_default();
            out.done(&answer, &format!("Trigger {id} runs, as delivery {delivery}."))
        }
        Command::TakeOver { id, app } => {
            let answer = client.take_trigger_over(app.as_str(), id)?;
            out.done(&answer, &format!("Trigger {id} runs with your rights."))
        }
        Command::Rm { id, app } => {
            let answer = client.delete_trigger(app.as_str(), id)?;
            out.done(&answer, &format!("Removed trigger {id}."))
        }
    }
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let triggers: Page<Trigger> = api::read(answer)?;
    let row = |trigger: &Trigger| -> Vec<TableCell> {
        vec![
            trigger.kind.as_str().into(),
            trigger.name.as_deref().unwrap_or("-").into(),
            trigger.script.as_str().into(),
            trigger.subject().into(),
            trigger.state(),
            trigger.id.as_str().into(),
        ]
    };
    let rows = triggers.items.iter().map(row).collect();
    context.out.table(
        &["KIND", "NAME", "SCRIPT", "WAITS FOR", "STATE", "ID"],
        rows,
        "The app has no triggers.",
    )
}

fn show(context: &Context, answer: &Value) -> Result<(), Failure> {
    let out = &context.out;
    if out.is_json() {
        return out.json(answer);
    }
    let trigger: Trigger = api::read(answer)?;
    let by = trigger.registered_by.as_deref().unwrap_or("nobody");
    out.line(&visible_line(&format!(
        "{} {} → {}, registered by {by}",
        trigger.kind,
        trigger.subject(),
        trigger.script
    )))?;
    if let Some(reason) = &trigger.paused {
        out.note(&visible_line(&format!("paused: {reason}")));
    }
    for time in &trigger.upcoming {
        out.line(&visible_line(time))?;
    }
    show_webhook(context, answer)
}

/// For people: where a webhook's sender is to send, and what it still needs.
fn show_webhook(context: &Context, answer: &Value) -> Result<(), Failure> {
    let out = &context.out;
    let trigger: Trigger = api::read(answer)?;
    let (Some(url), false) = (&trigger.url, out.is_json()) else { return Ok(()) };
    out.line(&visible_line(&format!("Its address: POST {url}")))?;
    for secret in &trigger.missing_secrets {
        out.warn(&format!("its secret {secret} is not set: pic secrets set {secret}"));
    }
    Ok(())
}

fn changed(mut config: Map<String, Value>, changes: &[(String, Value)]) -> Map<String, Value> {
    for (field, value) in changes {
        match value {
            Value::Null => drop(config.remove(field)),
            value => drop(config.insert(field.clone(), value.clone())),
        }
    }
    config
}

impl Trigger {
    /// What it waits for, in a word or two.
    fn subject(&self) -> String {
        let text = |field: &str| self.config.get(field).and_then(Value::as_str).unwrap_or_default();
        match self.kind.as_str() {
            "cron" => format!("{} {}", text("schedule"), text("timezone")),
            "kv" | "docs" | "files" => text("collection").to_owned(),
            "pubsub" => text("topic").to_owned(),
            "queue" => text("queue").to_owned(),
            "webhook" => text("provider").to_owned(),
            _ => match text("script") {
                "" => "all".to_owned(),
                script => format!("those of {script}"),
            },
        }
    }

    fn state(&self) -> TableCell {
        match (&self.paused, self.enabled) {
            (_, false) => TableCell::toned("off", Tone::Faint),
            (Some(_), true) => TableCell::toned("paused", Tone::Bad),
            (None, true) => TableCell::toned("on", Tone::Good),
        }
    }
}

fn setting(text: &str) -> Result<(String, Value), &'static str> {
    let (field, value) = text.split_once('=').ok_or("a setting is a field and a value, as in queue=mails")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((field.to_owned(), value))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("an event is a JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_field_by_field_and_null_takes_one_away() {
        let config = json!({ "provider": "hmac", "header": "a", "prefix": "b" }).as_object().unwrap().clone();
        let changes = [("header".to_owned(), json!("c")), ("prefix".to_owned(), Value::Null)];
        assert_eq!(Value::from(changed(config, &changes)), json!({ "provider": "hmac", "header": "c" }));
    }

    #[test]
    fn a_setting_is_json_or_else_text() {
        for (text, value) in [
            ("queue=mails", json!("mails")),
            ("concurrency=4", json!(4)),
            ("operations=[\"set\"]", json!(["set"])),
            ("schedule=0 7 * * MON", json!("0 7 * * MON")),
            ("prefix=sha256=", json!("sha256=")),
        ] {
            assert_eq!(setting(text).unwrap().1, value, "{text}");
        }
        assert!(setting("queue").is_err());
    }
}
