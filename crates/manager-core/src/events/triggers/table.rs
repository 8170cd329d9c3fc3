//! All triggers in memory, as of the last commit that changed any: who asks what a change leads to
//! asks here, and no statement is needed when it leads to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use shared::id::{AppId, TriggerId, UserId};
use shared::invocation::ScriptTarget;
use shared::name::{QueueName, TopicName};

use super::changes::{Operation, Service};
use super::dead_letter::Given;
use super::{Kind, RetryPolicy, TriggerConfig};

/// A trigger with all that it takes to run its script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) id: TriggerId,
    pub(crate) app: AppId,
    pub(crate) config: TriggerConfig,
    pub(crate) retry: RetryPolicy,
    /// Its script's live version.
    pub(crate) target: Arc<ScriptTarget>,
    pub(crate) is_script_disabled: bool,
    /// Whether new events are made for it.
    pub(crate) is_enabled: bool,
    /// Why its events wait: nobody's rights stand behind it.
    pub(crate) paused: Option<String>,
    /// Whose rights it runs with; none when the account is gone.
    pub(crate) registered_by: Option<UserId>,
}

impl Trigger {
    /// Whether its events may run now.
    pub(crate) const fn may_run(&self) -> bool {
        self.is_enabled && self.paused.is_none()
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.config.kind()
    }
}

/// Every trigger, by its id and by what it waits for.
#[derive(Debug, Default)]
pub(crate) struct TriggerTable {
    by_id: HashMap<TriggerId, Arc<Trigger>>,
    /// Those that are switched on.
    waiting: HashMap<(AppId, Kind), Vec<Arc<Trigger>>>,
}

impl TriggerTable {
    pub(crate) fn new(triggers: impl IntoIterator<Item = Trigger>) -> Self {
        let mut table = Self::default();
        for trigger in triggers {
            let trigger = Arc::new(trigger);
            if trigger.is_enabled {
                table.waiting.entry((trigger.app, trigger.kind())).or_default().push(Arc::clone(&trigger));
            }
            table.by_id.insert(trigger.id, trigger);
        }
        table
    }

    /// The trigger of this id, switched on or not.
    pub(crate) fn get(&self, id: TriggerId) -> Option<&Arc<Trigger>> {
        self.by_id.get(&id)
    }

    /// Every trigger, switched on or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Trigger>> {
        self.by_id.values()
    }

    /// Those of one kind that are switched on, of whichever app.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Trigger>> {
        self.waiting.iter().filter(move |((_, its), _)| *its == kind).flat_map(|(_, triggers)| triggers)
    }

    /// Who wants to know of a change in a collection.
    pub(crate) fn on_change(
        &self,
        app: AppId,
        service: Service,
        collection: &str,
        operation: Operation,
    ) -> impl Iterator<Item = &Arc<Trigger>> {
        self.waiting(app, service.kind()).iter().filter(move |trigger| match &trigger.config {
            TriggerConfig::Kv(config) => config.wants(collection, operation),
            TriggerConfig::Docs(config) => config.wants(collection, operation),
            TriggerConfig::Files(config) => config.wants(collection, operation),
            _ => false,
        })
    }

    /// Who listens to a topic.
    pub(crate) fn on_topic(&self, app: AppId, topic: &TopicName) -> impl Iterator<Item = &Arc<Trigger>> {
        self.waiting(app, Kind::Pubsub).iter().filter(
            move |trigger| matches!(&trigger.config, TriggerConfig::Pubsub(config) if config.topic.matches(topic)),
        )
    }

    /// The consumer of a queue, if it has one that is switched on.
    pub(crate) fn consumer(&self, app: AppId, queue: &QueueName) -> Option<&Arc<Trigger>> {
        self.waiting(app, Kind::Queue)
            .iter()
            .find(|trigger| matches!(&trigger.config, TriggerConfig::Queue(config) if config.queue == *queue))
    }

    /// Who handles a dead letter.
    pub(crate) fn on_dead_letter(&self, app: AppId, given: Given<'_>) -> impl Iterator<Item = &Arc<Trigger>> {
        self.waiting(app, Kind::DeadLetter).iter().filter(
            move |trigger| matches!(&trigger.config, TriggerConfig::DeadLetter(config) if config.wants(given)),
        )
    }

    fn waiting(&self, app: AppId, kind: Kind) -> &[Arc<Trigger>] {
        self.waiting.get(&(app, kind)).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::trigger;
    use super::*;

    #[test]
    fn a_change_leads_to_the_triggers_of_its_app_service_collection_and_operation() {
        let (app, other) = (AppId::new(), AppId::new());
        let all = trigger(app, Kind::Kv, &json!({ "collection": "*" }));
        let some = trigger(app, Kind::Kv, &json!({ "collection": "user*", "operations": ["delete"] }));
        let docs = trigger(app, Kind::Docs, &json!({ "collection": "*" }));
        let foreign = trigger(other, Kind::Kv, &json!({ "collection": "*" }));
        let off = Trigger { is_enabled: false, ..trigger(app, Kind::Kv, &json!({ "collection": "*" })) };
        let paused = trigger(app, Kind::Kv, &json!({ "collection": "log" }));
        let paused = Trigger { paused: Some("nobody".into()), ..paused };
        let table = TriggerTable::new([&all, &some, &docs, &foreign, &off, &paused].map(Clone::clone));
        let found = |collection, operation| -> Vec<TriggerId> {
            table.on_change(app, Service::Kv, collection, operation).map(|trigger| trigger.id).collect()
        };
        assert_eq!(found("users", Operation::Set), [all.id]);
        assert_eq!(found("users", Operation::Delete), [all.id, some.id]);
        assert_eq!(found("log", Operation::Set), [all.id, paused.id], "the events of a paused one wait");
        assert_eq!(table.get(off.id).map(|trigger| trigger.is_enabled), Some(false));
        assert_eq!(table.of_kind(Kind::Kv).count(), 4);
    }

    #[test]
    fn a_message_leads_to_all_of_its_topic_or_the_one_of_its_queue() {
        let app = AppId::new();
        let exact = trigger(app, Kind::Pubsub, &json!({ "topic": "a.b" }));
        let below = trigger(app, Kind::Pubsub, &json!({ "topic": "a.*" }));
        let queue = trigger(app, Kind::Queue, &json!({ "queue": "mails" }));
        let table = TriggerTable::new([&exact, &below, &queue].map(Clone::clone));
        let topic = |name: &str| table.on_topic(app, &name.parse().unwrap()).count();
        assert_eq!((topic("a.b"), topic("a.c"), topic("b")), (2, 1, 0));
        let consumer = |name: &str| table.consumer(app, &name.parse().unwrap()).map(|found| found.id);
        assert_eq!((consumer("mails"), consumer("other")), (Some(queue.id), None));
    }

    #[test]
    fn a_dead_letter_leads_to_the_handlers_that_mean_it() {
        let app = AppId::new();
        let id = TriggerId::new();
        let configs = [
            json!({}),
            json!({ "kind": "cron" }),
            json!({ "trigger_id": id }),
            json!({ "script": "mailer", "kind": "queue" }),
        ];
        let table = TriggerTable::new(configs.iter().map(|config| trigger(app, Kind::DeadLetter, config)));
        let count = |kind, trigger, script: &str| {
            let script = script.parse().unwrap();
            table.on_dead_letter(app, Given { kind, trigger, script: &script }).count()
        };
        assert_eq!(count(Some(Kind::Queue), Some(id), "mailer"), 3);
        assert_eq!(count(Some(Kind::Cron), None, "mailer"), 2);
        assert_eq!(count(None, None, "other"), 1);
    }
}
