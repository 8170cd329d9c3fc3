//! `pic queues`: messages that wait for their consumers.

use serde::Deserialize;
use serde_json::{Value, json};
use shared::name::QueueName;

use crate::api::{self, Page};
use crate::context::{AppArg, Context};
use crate::failure::Failure;
use crate::output::{TableCell, Tone};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the queues of an app, and how full they are.
    Ls {
        #[command(flatten)]
        app: AppArg,
    },
    /// Show the messages that wait in a queue.
    Peek {
        queue: QueueName,
        /// How many to show.
        #[arg(long, default_value_t = 20, value_name = "NUMBER")]
        limit: usize,
        #[command(flatten)]
        app: AppArg,
    },
    /// Send a message.
    Send {
        queue: QueueName,
        /// JSON, or else text.
        message: String,
        /// How many seconds to keep it back.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        delay: u64,
        /// Messages with the same key are handled one after the other.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        app: AppArg,
    },
    /// Hand no more messages out.
    Pause {
        queue: QueueName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Hand messages out again.
    Resume {
        queue: QueueName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Throw away what waits in a queue.
    Purge {
        queue: QueueName,
        #[command(flatten)]
        app: AppArg,
    },
    /// Try the messages again that were given up.
    Redrive {
        queue: QueueName,
        #[command(flatten)]
        app: AppArg,
    },
}

#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    ready: u64,
    delayed: u64,
    in_flight: u64,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    consumer: Option<Consumer>,
}

#[derive(Debug, Deserialize)]
struct Consumer {
    script: String,
    concurrency: u16,
}

#[derive(Debug, Deserialize)]
struct Message {
    id: String,
    #[serde(default)]
    key: Option<String>,
    message: Value,
    due_at: String,
}

pub(crate) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let (out, client) = (&context.out, context.client()?);
    let messages = |answer: &Value| answer["messages"].as_u64().unwrap_or_default();
    match command {
        Command::Ls { app } => list(context, &client.queues(app.as_str())?),
        Command::Peek { queue, limit, app } => {
            peek(context, &client.queue_messages(app.as_str(), queue.as_str(), *limit)?)
        }
        Command::Send { queue, message, delay, key, app } => {
            let message: Value = serde_json::from_str(message).unwrap_or_else(|_| message.as_str().into());
            let body = json!({ "message": message, "delay_ms": delay.saturating_mul(1_000), "key": key });
            let answer = client.send_message(app.as_str(), queue.as_str(), &body)?;
            let id = answer["id"].as_str().unwrap_or_default();
            out.done(&answer, &format!("Sent message {id} to {queue}."))
        }
        Command::Pause { queue, app } => {
            let answer = client.queue_verb(app.as_str(), queue.as_str(), "pause")?;
            out.done(&answer, &format!("Queue {queue} is paused; what is handled already goes on."))
        }
        Command::Resume { queue, app } => {
            let answer = client.queue_verb(app.as_str(), queue.as_str(), "resume")?;
            out.done(&answer, &format!("Queue {queue} goes on."))
        }
        Command::Purge { queue, app } => {
            let answer = client.queue_verb(app.as_str(), queue.as_str(), "purge")?;
            out.done(&answer, &format!("Threw away {} messages of {queue}.", messages(&answer)))
        }
        Command::Redrive { queue, app } => {
            let answer = client.queue_verb(app.as_str(), queue.as_str(), "redrive")?;
            out.done(&answer, &format!("{} messages of {queue} are tried again.", messages(&answer)))
        }
    }
}

fn list(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let queues: Page<Queue> = api::read(answer)?;
    let row = |queue: &Queue| -> Vec<TableCell> {
        let consumer = match &queue.consumer {
            Some(Consumer { script, concurrency }) => format!("{script} ×{concurrency}"),
            None => "none".to_owned(),
        };
        let state = match queue.paused {
            true => TableCell::toned("paused", Tone::Bad),
            false => TableCell::toned("on", Tone::Good),
        };
        vec![
            queue.name.as_str().into(),
            queue.ready.to_string().into(),
            queue.delayed.to_string().into(),
            queue.in_flight.to_string().into(),
            consumer.into(),
            state,
        ]
    };
    let rows = queues.items.iter().map(row).collect();
    let heads = ["QUEUE", "READY", "DELAYED", "IN FLIGHT", "CONSUMER", "STATE"];
    context.out.table(&heads, rows, "The app has no queues.")
}

fn peek(context: &Context, answer: &Value) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.json(answer);
    }
    let messages: Page<Message> = api::read(answer)?;
    let row = |message: &Message| -> Vec<TableCell> {
        vec![
            message.due_at.as_str().into(),
            message.key.as_deref().unwrap_or("-").into(),
            message.message.to_string().into(),
            message.id.as_str().into(),
        ]
    };
    let rows = messages.items.iter().map(row).collect();
    context.out.table(&["DUE", "KEY", "MESSAGE", "ID"], rows, "Nothing waits in the queue.")
}
