//! `pic whoami`: the user behind the login.

use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::visible_line;

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let answer = context.client()?.me()?;
    if context.out.is_json() {
        return context.out.json(&answer);
    }
    let user = answer.get("user").unwrap_or(&answer);
    let text = |field: &str| user.get(field).and_then(Value::as_str).map(visible_line);
    let name = text("username").unwrap_or_else(|| "someone".to_owned());
    let role = text("role").map_or_else(String::new, |role| format!(" ({role})"));
    context.out.line(&format!("{name}{role} at {}", context.url))
}
