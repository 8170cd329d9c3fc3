//! `pic rollback`: moves the live pointer of a script.

use shared::name::ScriptName;

use crate::api::{self, Script};
use crate::context::{AppArg, Context};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    name: ScriptName,
    /// As `pic scripts versions` lists them.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    #[command(flatten)]
    app: AppArg,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let answer = context.client()?.rollback(args.app.as_str(), args.name.as_str(), args.version)?;
    let text = format!("Version {} of {} is live in app {}.", args.version, args.name, args.app.as_str());
    context.out.done(&answer, &text)?;
    if !context.out.is_json() {
        let script: Script = api::read(&answer)?;
        for user in &script.rebundled {
            context.out.line(&format!("{} uses it and is now version {}.", user.name, user.version))?;
        }
    }
    Ok(())
}
