//! The words of the document: what no type can say. A test asks for a summary of every endpoint.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};
use shared::fault::Code;

use super::document::Beside;
use super::schemas;
use crate::admin::sdk::Reference;

pub(super) const INTRODUCTION: &str = "\
The admin API of PiCloud. Everything is JSON. Every failure is an RFC 9457 problem with a `code`, which \
`/api/v1/errors/{code}` explains, and with `fault` (whose doing it is) and `retry` (whether the same request may \
simply be sent again).\n\n\
Lists come in pages: `limit` (1 to 200, 50 unless given) and `cursor` in, `items` and `next_cursor` out; the last \
page has the `next_cursor` null.\n\n\
What can be changed has an `ETag`; a change with `If-Match` is done only if it is still as it was, else 412.\n\n\
A POST with an `Idempotency-Key` is done once within 24 hours, however often it is sent; the answer is the first \
one's, with `Idempotency-Replayed: true`.\n\n\
Every answer has an `X-Request-Id`, under which the server's log and the audit log know the request. A W3C \
`traceparent` is taken over and answered.";

/// What an endpoint is for. The first word of an id is the resource, which is the endpoint's tag.
#[expect(clippy::too_many_lines, reason = "a table is read as one")]
pub(super) fn summary(id: &str) -> &'static str {
    match id {
        "session_login" => "Log in with name and password, for a token or a cookie",
        "session_me" => "Who the caller is, and by which credential",
        "session_logout" => "End the session that asks",
        "secrets_list" => "The names of an app's secrets; never their values",
        "secrets_put" => "Set a secret",
        "secrets_delete" => "Remove a secret",
        "secrets_rotate" => "Seal an app's secrets with a new key, and forget the old one",
        "secrets_rotate_master" => "Wrap the keys of all apps with another secret key",
        "egress_show" => "Where an app's scripts may send requests",
        "egress_set" => "Say where an app's scripts may send requests",
        "egress_destinations" => "Where an app's scripts have sent requests, and since when",
        "account_change_password" => "Change one's password and end every other session",
        "account_sessions" => "Where one is logged in",
        "account_revoke_all" => "End all of one's sessions",
        "account_revoke" => "End one of one's sessions",
        "totp_show" => "Whether one has a second factor",
        "totp_enrol" => "Begin with a second factor: a secret for an app on the phone, shown once",
        "totp_confirm" => "Prove the second factor; answers the recovery codes, once",
        "totp_remove" => "Do without the second factor",
        "oidc_providers" => "Identity providers by which one can log in",
        "oidc_login" => "Go to an identity provider to log in; for browsers",
        "oidc_callback" => "Come back from an identity provider; sets the cookie of a session",
        "oidc_identities" => "One's accounts at identity providers",
        "oidc_link" => "Go to an identity provider to have one's account there linked",
        "oidc_unlink" => "Unlink one's account at an identity provider",
        "users_list" => "People who may log in, by name",
        "users_show" => "A person",
        "users_create" => "Make an account",
        "users_update" => "Change a person's role, disable them, reset their password or second factor",
        "users_delete" => "Remove an account that owns no app",
        "invitations_list" => "Open invitations",
        "invitations_create" => "Invite somebody; answers the link's token, once",
        "invitations_delete" => "Withdraw an invitation",
        "invitations_accept" => "Make an account with an invitation's token",
        "api_keys_list" => "One's API keys, without their secrets",
        "api_keys_create" => "Make an API key, shown once",
        "api_keys_delete" => "Revoke an API key",
        "audit_of_instance" => "The audit log, newest first",
        "audit_of_app" => "An app's part of the audit log, newest first",
        "audit_verify" => "Read the whole audit log and say whether it is as it was written",
        "apps_list" => "Apps that the caller may see, by slug",
        "apps_create" => "Make an app",
        "apps_show" => "An app, and what the caller may do to it",
        "apps_update" => "Rename or describe an app; its old slug goes on leading to it",
        "apps_delete" => "Remove an app with all that belongs to it",
        "apply_plan" => "What would change for the app to be as a manifest says",
        "apply_apply" => "Make the app what a manifest says, in one transaction",
        "export_show" => "The app as a manifest, which applied again changes nothing",
        "assets_list" => "Static files of an app, by path",
        "assets_put" => "Upload a static file; the body is the file",
        "assets_delete" => "Remove a static file",
        "kv_collections" => "Collections of values that an app's scripts keep, by name",
        "kv_list" => "Values of a collection, by key",
        "kv_show" => "A value",
        "kv_set" => "Write a value",
        "kv_delete" => "Remove a value",
        "docs_collections" => "Collections of documents that an app's scripts keep, by name",
        "docs_find" => "Documents of a collection that a filter finds",
        "docs_create" => "Make a document",
        "docs_show" => "A document",
        "docs_replace" => "Replace a document's data",
        "docs_patch" => "Set and remove members of a document",
        "docs_delete" => "Remove a document",
        "doc_indexes_list" => "Indexes of an app's documents, and what has become of them",
        "doc_indexes_create" => "Index documents by their members; it is built beside everything else",
        "doc_indexes_delete" => "Remove an index of documents",
        "doc_schemas_list" => "What the documents of an app's collections must be like, by collection",
        "doc_schemas_put" => "Say what the documents of a collection must be like, in JSON Schema",
        "doc_schemas_delete" => "Let a collection take any document again",
        "files_collections" => "Collections of files that an app's scripts keep, by name",
        "files_list" => "Files of a collection, in the order in which they were made",
        "files_create" => "Upload a file; the body is its content",
        "files_show" => "A file without its content",
        "files_replace" => "Upload a new content of a file",
        "files_delete" => "Remove a file",
        "files_download" => "A file's content, whole or the part that a Range asks for",
        "app_users_list" => "Users of an app, in the order in which they came",
        "app_users_show" => "A user of an app",
        "app_users_update" => "Disable or enable a user of an app, change their roles",
        "app_users_delete" => "Remove a user of an app with their sessions",
        "app_users_end_sessions" => "End all sessions of a user of an app",
        "domains_list" => "Domains that the app has claimed",
        "domains_show" => "A claim to a host",
        "domains_create" => "Claim a domain; answers the DNS record that proves it",
        "domains_verify" => "Look for the DNS record and, when it is there, let the domain lead to the app",
        "domains_waive" => "Believe a claim without proof",
        "domains_delete" => "Let go of a domain",
        "transfer_transfer" => {
            "Offer an app to somebody, who owns it and pays for it when they accept, within 7 days"
        }
        "transfer_show" => "Whom an app is offered to",
        "transfer_withdraw" => "Take the offer of an app back",
        "transfer_offers" => "Apps that are offered to the caller, by slug",
        "transfer_accept" => "Become the owner of an app that was offered, by its slug or id",
        "transfer_decline" => "Refuse an app that was offered, by its slug or id",
        "transfer_assign" => "Make somebody the owner of an app without asking them",
        "members_list" => "Members of an app, by name",
        "members_show" => "A member of an app",
        "members_add" => "Make somebody a member of an app",
        "members_update" => "Change a member's role",
        "members_remove" => "Take a member out of an app",
        "denials_list" => {
            "The last refusals on an app, newest first: which rule refused whom, and what would change that"
        }
        "budgets_show" => "What an app may use over time, and keep",
        "budgets_set" => {
            "Replace what an app may use over time and keep; what is left out has no limit, or that of all apps"
        }
        "budgets_usage" => "What an app used this minute, today and in the last 30 days, and what it keeps",
        "incidents_list" => "Workers that misbehaved while scripts of the app ran, newest first",
        "incidents_release" => "Let a quarantined script run again",
        "scripts_list" => "Scripts of an app, by name",
        "switch_enable" => "Switch a script on",
        "switch_disable" => "Switch a script off: its routes stay and answer 503",
        "scripts_deploy" => "Deploy a script: a new version, live at once; the same source again makes none",
        "scripts_show" => "A script with the source of its live version",
        "scripts_delete" => "Remove a script and its routes",
        "versions_list" => "Versions of a script, newest first",
        "version_diff_diff" => "What differs between two versions of a script",
        "versions_approve" => "Let a version be live that asks for more than the live one",
        "modules_graph" => "Which scripts of an app import which",
        "versions_rollback" => "Make an earlier version live",
        "invoke_test" => "Run a script with a made-up request and see everything about the run",
        "routes_list" => "Routes of an app",
        "routes_create" => "Make a route to a script",
        "matching_explain" => "Which script an address would reach, and why",
        "routes_show" => "A route",
        "routes_update" => "Change a route",
        "routes_delete" => "Remove a route",
        "triggers_list" => "Triggers of an app: what makes scripts run besides requests",
        "triggers_create" => "Make a trigger, which runs with its maker's rights",
        "triggers_preview" => "When a schedule would come next",
        "triggers_show" => "A trigger, with the next 20 times of a cron trigger and the address of a webhook",
        "triggers_update" => "Change a trigger; who changes what runs stands behind it from then on",
        "triggers_delete" => "Remove a trigger",
        "trigger_run_run" => "Run a trigger now, as if what it waits for had happened",
        "topics_list" => "Topics that an app has registered, by name",
        "topics_create" => "Register a topic: whether somebody outside may listen, and what they need for it",
        "topics_show" => "A registered topic",
        "topics_update" => "Change what is registered of a topic",
        "topics_delete" => "Make a topic an internal one",
        "queues_list" => "Queues of an app, and how full they are",
        "queues_peek" => "Messages that wait in a queue, in the order in which they will be handled",
        "queues_send" => "Send a message to a queue",
        "queues_pause" => "Hand no more messages of a queue out",
        "queues_resume" => "Hand messages of a queue out again",
        "queues_purge" => "Throw away what waits in a queue",
        "queues_redrive" => "Try messages of a queue again that were given up",
        "triggers_take_over" => "Put one's own rights behind a trigger, which ends its pause",
        "executions_list" => "Executions of an app, newest first",
        "executions_show" => "An execution with its log lines",
        "causation_show" => "Why an execution ran: its chain of events, as a tree",
        "outbox_list" => "Events of an app that are not done, the oldest first",
        "outbox_abandoned" => "Answers of durable routes that nobody waited for any more, newest first",
        "dead_letters_list" => "Deliveries that were given up, newest first",
        "dead_letters_show" => "A delivery that was given up, with its event",
        "dead_letters_replay" => "Try a dead letter again, as a new delivery",
        "dead_letters_replay_many" => "Try the open dead letters again that a filter means",
        "dead_letters_resolve" => "Say that nothing is to be done about a dead letter",
        "dead_letters_resolve_many" => "Say so about all that a filter means",
        "tail_follow" => "Follow an app's log: server-sent events `log`, `execution` and `gap`",
        _ => "",
    }
}

/// Problems of an endpoint that neither its signature nor its line in the table tells.
pub(super) fn problems(id: &str) -> &'static [Code] {
    use Code::{
        AppFrozen, BadRequest, BudgetExhausted, CompileError, Conflict, DnsUnavailable, DomainUnproven,
        Forbidden, IdentityProviderFailed, InvalidInput, LimitOutOfRange, NotFound, OutboxFull, Overloaded,
        ScriptQuarantined, SecondFactorRequired, TooManyRequests, Unauthenticated, Unavailable, WorkerLost,
    };
    match id {
        "session_login" => &[Unauthenticated, SecondFactorRequired, TooManyRequests],
        "account_change_password" | "totp_enrol" | "totp_remove" | "users_create" | "users_update" => {
            &[TooManyRequests, InvalidInput]
        }
        "oidc_login" => &[IdentityProviderFailed],
        "oidc_callback" => {
            &[BadRequest, Unauthenticated, Forbidden, NotFound, Conflict, IdentityProviderFailed]
        }
        "oidc_link" => &[NotFound, TooManyRequests, IdentityProviderFailed],
        "invitations_accept" => &[NotFound, TooManyRequests],
        "api_keys_create" => &[NotFound, Forbidden],
        "scripts_deploy" | "versions_rollback" | "versions_approve" | "apply_plan" | "apply_apply" => &[
            CompileError,
            LimitOutOfRange,
            Overloaded,
            WorkerLost,
            BudgetExhausted,
            AppFrozen,
            ScriptQuarantined,
        ],
        "export_show" => &[Conflict],
        "routes_create" | "routes_update" => &[LimitOutOfRange],
        "kv_set" | "kv_delete" | "docs_find" | "docs_create" | "docs_replace" | "docs_patch"
        | "docs_delete" | "files_create" | "files_replace" | "files_delete" => &[BudgetExhausted],
        "domains_create" | "matching_explain" => &[Unavailable],
        "domains_verify" => &[DomainUnproven, DnsUnavailable],
        "invoke_test" => &[Overloaded, BudgetExhausted, AppFrozen, ScriptQuarantined],
        "dead_letters_replay" | "dead_letters_replay_many" => &[OutboxFull, NotFound],
        "queues_redrive" | "trigger_run_run" => &[OutboxFull],
        "dead_letters_resolve" | "dead_letters_resolve_many" => &[NotFound],
        "tail_follow" => &[TooManyRequests],
        _ => &[],
    }
}

/// What stands in a place of an address.
pub(super) fn place(name: &str) -> &'static str {
    match name {
        "app" => "An app's slug or id.",
        "name" => "A name, as in the list.",
        "user" => "A person's name or id.",
        "id" => "An id, as in the list; a person's name will do too.",
        "version" => "A version's number.",
        "code" => "A problem's code.",
        "namespace" => "A namespace of the SDK with `.d.rhai` behind it, such as `json.d.rhai`.",
        _ => "",
    }
}

/// What the manager serves to everybody besides the admin API.
pub(super) fn public_pages() -> [Beside; 6] {
    let page = |path, id, summary, content_type, schema| Beside {
        path,
        id,
        summary,
        is_guarded: false,
        content_type,
        schema,
        also: &[],
    };
    let text = json!({ "type": "string" });
    let versions = json!({
        "type": "object",
        "required": ["product", "sdk", "api", "schema", "wire"],
        "properties": {
            "product": { "type": "string" },
            "sdk": { "type": "string" },
            "api": { "type": "string" },
            "schema": { "type": "integer", "format": "int64" },
            "wire": { "type": "integer" },
        },
    });
    [
        page(
            "/version",
            "system_version",
            "Versions of the product and its interfaces",
            "application/json",
            versions,
        ),
        page(
            "/api/v1/errors/{code}",
            "errors_page",
            "What a problem's code means",
            "text/markdown",
            text.clone(),
        ),
        page(
            "/api/v1/openapi.json",
            "openapi_document",
            "This document",
            "application/json",
            json!({ "type": "object", "required": ["openapi", "info", "paths"] }),
        ),
        page("/api/v1/docs", "openapi_page", "This document for people", "text/html", text.clone()),
        page(
            "/api/v1/sdk.json",
            "sdk_index",
            "What scripts can call, for editors",
            "application/json",
            schemas::whole::<Reference>(),
        ),
        page(
            "/api/v1/sdk/{namespace}",
            "sdk_definitions",
            "A namespace as a definition file of Rhai",
            "text/plain",
            text,
        ),
    ]
}

pub(super) fn headers() -> Value {
    json!({
        "X-Request-Id": {
            "description": "The id under which logs know the request.",
            "schema": { "type": "string" },
        },
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "schema": { "type": "integer", "minimum": 0 },
        },
        "RateLimit": {
            "description": "By limit: `r` attempts are left, all are there again in `t` seconds.",
            "schema": { "type": "string" },
        },
        "RateLimit-Policy": {
            "description": "By limit: `q` attempts in `w` seconds.",
            "schema": { "type": "string" },
        },
        "Location": {
            "description": "Where to go.",
            "schema": { "type": "string", "format": "uri-reference" },
        },
        "ETag": {
            "description": "The state of the resource, for If-Match.",
            "schema": { "type": "string", "pattern": "^\"[0-9a-f]{32}\"$" },
        },
    })
}

pub(super) fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "The token of POST /api/v1/admin/auth/login, or an API key `pic_…`.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": shared::http::SESSION_COOKIE,
            "description": "The session of a browser. A change by cookie must come from a page of this server.",
        },
    })
}

pub(super) fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Answer")
}

/// The answer to what goes wrong with one of these codes.
pub(super) fn problem(status: u16, codes: &BTreeSet<&str>) -> Value {
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
    if matches!(status, 409 | 429 | 503) {
        headers["Retry-After"] = json!({ "$ref": "#/components/headers/Retry-After" });
    }
    let shown: Vec<_> = codes.iter().map(|code| format!("`{code}`")).collect();
    json!({
        "description": format!("{}: {}", reason(status), shown.join(", ")),
        "headers": headers,
        "content": { "application/problem+json": { "schema": {
            "allOf": [{ "$ref": "#/components/schemas/Problem" }],
            "properties": { "status": { "const": status }, "code": { "enum": codes } },
        } } },
    })
}

pub(super) fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "An RFC 9457 problem. Some codes have further members, which their pages name.",
        "required": ["type", "title", "status", "detail", "code", "request_id", "fault", "retry"],
        "properties": {
            "type": { "type": "string", "format": "uri-reference", "description": "The page of the code." },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "$ref": "#/components/schemas/ProblemCode" },
            "request_id": { "type": "string" },
            "fault": { "enum": ["caller", "script", "platform"], "description": "Whose doing it is." },
            "retry": {
                "enum": ["safe", "unsafe"],
                "description": "Safe: nothing was done, the same request may be sent again.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::endpoints;

    #[test]
    fn every_endpoint_has_a_summary_and_a_name_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for endpoint in endpoints::table() {
            let id = endpoint.id();
            assert!(!summary(&id).is_empty(), "say in words.rs what {id} is for");
            assert!(seen.insert(id.clone()), "two endpoints are called {id}");
        }
    }
}
