//! rustc's layout in ASCII, for pipes, logs and editors that look for `--> file:line:column`.

use super::CompileError;

pub(super) fn render(error: &CompileError) -> String {
    let mut text = format!("error[compile_error]: {error}\n");
    let Some(place) = &error.place else { return with_help(text, error, 0) };
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    let column = place.column.map_or_else(String::new, |column| format!(":{column}"));
    let (indent, width) = place.excerpt.caret();
    text += &format!("{gutter}--> {}:{number}{column}\n", place.file);
    text += &format!("{gutter} |\n");
    text += format!("{number} | {}", place.excerpt.wrong_line()).trim_end();
    text += &format!("\n{gutter} | {}{} {}\n", " ".repeat(indent), "^".repeat(width), error.message);
    with_help(text, error, number.len())
}

fn with_help(mut text: String, error: &CompileError, gutter: usize) -> String {
    if let Some(help) = &error.help {
        let gutter = " ".repeat(gutter);
        text += &format!("{gutter} |\n{gutter} = help: {help}\n");
    }
    text
}
