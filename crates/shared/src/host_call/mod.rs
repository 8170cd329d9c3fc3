//! The complete list of what a script can ask of the parent.
//!
//! A worker relays these calls as numbers and bytes and does not know what they mean.

pub mod atomic;
pub mod dead_letters;
pub mod docs;
pub mod email;
pub mod files;
pub mod http;
pub mod invoke;
pub mod kv;
mod list;
pub mod pubsub;
pub mod queue;
pub mod secrets;
pub mod users;

use serde::{Deserialize, Serialize};

/// Set in the number of a call that has no answer: the guest goes on at once.
pub const ONE_WAY: u16 = 0x8000;
/// Not a call: copies the answer of the last call into guest memory. Served by the worker itself.
pub const TAKE_REPLY: u16 = 0;
/// Not a call: the guest has burnt its slice of fuel and asks for the next. Served by the worker itself.
pub const REFUEL: u16 = 0x7fff;

macro_rules! host_calls {
    ($($(#[$doc:meta])* $variant:ident = $number:expr, $name:literal;)+) => {
        /// Everything a guest may call. Each namespace has a range of numbers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum HostOp {
            $($(#[$doc])* $variant = $number,)+
        }

        impl HostOp {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $(n if n == Self::$variant as u16 => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// As scripts call it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether nobody waits for an answer.
            pub const fn is_one_way(self) -> bool {
                self as u16 & ONE_WAY != 0
            }
        }
    };
}

host_calls! {
    /// Appends a line to the execution's log. [`LogLine`].
    Log = ONE_WAY | 1, "log";

    // kv: 16 to 31.
    /// A value. [`kv::Key`] → [`kv::Found`].
    KvGet = 16, "kv.get";
    /// Writes a value, under conditions if need be. [`kv::Set`] → [`kv::Written`].
    KvSet = 17, "kv.set";
    /// Whether there is a value. [`kv::Key`] → [`kv::Existed`].
    KvHas = 18, "kv.has";
    /// Removes a value. [`kv::Key`] → [`kv::Existed`].
    KvDelete = 19, "kv.delete";
    /// Adds to a whole number. [`kv::Incr`] → [`kv::Sum`].
    KvIncr = 20, "kv.incr";
    /// A part of a collection. [`kv::List`] → [`kv::Page`].
    KvList = 21, "kv.list";
    /// Several values at once. [`kv::Keys`] → [`kv::FoundMany`].
    KvGetMany = 22, "kv.get_many";
    /// A value with its version. [`kv::Key`] → [`kv::FoundEntry`].
    KvEntry = 23, "kv.entry";

    // docs: 32 to 47.
    /// Makes a document. [`docs::Create`] → [`docs::Created`].
    DocsCreate = 32, "docs.create";
    /// A document. [`docs::Id`] → [`docs::Found`].
    DocsGet = 33, "docs.get";
    /// The documents that a query finds. [`docs::Find`] → [`docs::Page`].
    DocsFind = 34, "docs.find";
    /// Changes a document. [`docs::Update`] → [`docs::Updated`].
    DocsUpdate = 35, "docs.update";
    /// Removes a document. [`docs::Id`] → [`docs::Deleted`].
    DocsDelete = 36, "docs.delete";
    /// How many documents a query finds. [`docs::Find`] → [`docs::Counted`].
    DocsCount = 37, "docs.count";

    // files: 48 to 63.
    /// Makes a file. [`files::Create`] → [`files::Found`].
    FilesCreate = 48, "files.create";
    /// Sends a piece of a long content. [`files::Append`] → [`files::Appended`].
    FilesAppend = 49, "files.append";
    /// A file without its content. [`files::Id`] → [`files::Found`].
    FilesHead = 50, "files.head";
    /// A part of a content. [`files::Read`] → [`files::FoundPart`].
    FilesRead = 51, "files.read";
    /// Changes a file. [`files::Update`] → [`files::Found`].
    FilesUpdate = 52, "files.update";
    /// Removes a file. [`files::Id`] → [`files::Deleted`].
    FilesDelete = 53, "files.delete";
    /// A part of a collection. [`files::List`] → [`files::Page`].
    FilesList = 54, "files.list";
    /// A link by which anybody gets a file. [`files::Link`] → [`files::Linked`].
    FilesUrl = 55, "files.url";

    // atomic: 64 to 79.
    /// Several changes as one. [`atomic::Commit`] → [`atomic::Committed`].
    AtomicCommit = 64, "atomic.commit";

    // secrets: 80 to 95.
    /// A secret's value. [`secrets::SecretName`] → [`secrets::SecretValue`].
    SecretsGet = 80, "secrets.get";
    /// Sets a secret. [`secrets::SetSecret`] → `()`.
    SecretsSet = 81, "secrets.set";
    /// Removes a secret. [`secrets::SecretName`] → [`secrets::Existed`].
    SecretsDelete = 82, "secrets.delete";
    /// The names of all secrets. `()` → [`secrets::SecretNames`].
    SecretsList = 83, "secrets.list";

    // http: 96 to 111.
    /// A request to the world. [`http::Request`] → [`http::Response`].
    HttpSend = 96, "http.send";

    // queue: 112 to 119.
    /// Sends a message. [`queue::Send`] → [`queue::Accepted`].
    QueueSend = 112, "queue.send";
    /// How full a queue is. [`queue::Named`] → [`queue::Stats`].
    QueueStats = 113, "queue.stats";

    // pubsub: 120 to 127.
    /// Sends a message to all who listen, and keeps it until they have handled it.
    /// [`pubsub::Publish`] → [`pubsub::Published`].
    PubsubPublish = 120, "pubsub.publish";
    /// The same, told once. [`pubsub::Publish`] → [`pubsub::Published`].
    PubsubPublishEphemeral = 121, "pubsub.publish_ephemeral";

    /// A token for somebody outside. [`pubsub::SubscriberToken`] → [`pubsub::Token`].
    PubsubSubscriberToken = 122, "pubsub.subscriber_token";

    // invoke and retry: 128 to 135.
    /// Runs another script and waits for it. [`invoke::Invoke`] → [`invoke::Returned`].
    Invoke = 128, "invoke";
    /// Runs another script later. [`invoke::InvokeAsync`] → [`queue::Accepted`].
    InvokeAsync = 129, "invoke_async";
    /// A pause between two attempts. [`invoke::Wait`] → `()`.
    RetryWait = 130, "retry.wait";

    // dead_letters: 136 to 143.
    /// Some of them. [`dead_letters::List`] → [`dead_letters::Shown`].
    DeadLettersList = 136, "dead_letters.list";
    /// One of them, or null. [`dead_letters::One`] → [`dead_letters::Shown`].
    DeadLettersGet = 137, "dead_letters.get";
    /// Tries one again. [`dead_letters::One`] → [`queue::Accepted`].
    DeadLettersReplay = 138, "dead_letters.replay";
    /// Closes one. [`dead_letters::One`] → `()`.
    DeadLettersResolve = 139, "dead_letters.resolve";

    // email: 144 to 159.
    /// Sends a mail. [`email::Send`] → [`email::Sent`].
    EmailSend = 144, "email.send";

    // users: 160 to 175.
    /// Makes an account. [`users::Register`] → [`users::Found`].
    UsersRegister = 160, "users.register";
    /// Begins a session. [`users::Login`] → [`users::Found`].
    UsersLogin = 161, "users.login";
    /// Ends a session. [`users::Logout`] → [`users::Existed`].
    UsersLogout = 162, "users.logout";
    /// Whose session it is. [`users::Token`] → [`users::Found`].
    UsersMe = 163, "users.me";
    /// A user. [`users::Id`] → [`users::Found`].
    UsersGet = 164, "users.get";
    /// Some of them. [`users::List`] → [`users::Found`].
    UsersList = 165, "users.list";
    /// Changes a user. [`users::Update`] → [`users::Found`].
    UsersUpdate = 166, "users.update";
    /// Removes a user. [`users::Id`] → [`users::Existed`].
    UsersDelete = 167, "users.delete";
    /// A token that proves that a user got a message. [`users::Id`] → [`users::Issued`].
    UsersVerification = 168, "users.verification";
    /// Takes such a token. [`users::Token`] → [`users::Found`].
    UsersVerify = 169, "users.verify";
    /// A token for a new password. [`users::Named`] → [`users::Issued`].
    UsersReset = 170, "users.reset";
    /// Takes such a token. [`users::ResetPassword`] → [`users::Found`].
    UsersResetPassword = 171, "users.reset_password";
}

/// Why a call failed: body of an answer whose status is not 0, and what a script catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFailure<'a> {
    pub code: &'a str,
    pub message: &'a str,
}

/// Severity of a log line; no `debug`, because that is a Rhai keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Arguments of [`HostOp::Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine<'a> {
    pub level: LogLevel,
    pub message: &'a str,
    /// JSON text of the optional second argument; empty when absent.
    pub data: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_a_number_and_a_name_of_its_own() {
        for (index, op) in HostOp::ALL.iter().enumerate() {
            assert_eq!(HostOp::from_number(*op as u16), Some(*op));
            assert!(![TAKE_REPLY, REFUEL].contains(&(*op as u16)), "{op:?}");
            assert!(HostOp::ALL[..index].iter().all(|other| other.as_str() != op.as_str()), "{op:?}");
        }
        assert_eq!(HostOp::from_number(15), None);
    }
}
