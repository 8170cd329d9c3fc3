//! `pic logout`: ends the session at the server and forgets it here.

use crate::client::Client;
use crate::config;
use crate::context::Context;
use crate::failure::Failure;

pub(crate) fn run(mut context: Context) -> Result<(), Failure> {
    let out = context.out;
    let url = context.url.clone();
    let Some(token) = context.credentials.token(url.as_str()).map(ToOwned::to_owned) else {
        out.note(&format!("There is no login for {url}."));
        return note_environment(&context);
    };
    // The token is forgotten here whatever the server says: it may be gone for good.
    let ended = Client::new(url.clone(), Some(token)).logout();
    context.credentials.forget(url.as_str());
    context.credentials.save()?;
    match ended {
        Ok(_) => out.line(&format!("Logged out of {url}."))?,
        Err(failure) => {
            out.warn(&format!("the login is forgotten here, but the server did not end it: {failure}"));
        }
    }
    note_environment(&context)
}

fn note_environment(context: &Context) -> Result<(), Failure> {
    if config::token().is_some() {
        context.out.warn(&format!("{} is still set and is used for every command", config::TOKEN));
    }
    Ok(())
}
