//! The rendered text, letter by letter.

use serde_json::json;

use super::*;

fn error(source: &str, report: serde_json::Value) -> CompileError {
    let mut raw = report;
    raw["title"] = json!("The script does not compile");
    raw["status"] = json!(422);
    raw["code"] = json!("compile_error");
    let problem = Problem::read(422, raw.to_string().as_bytes());
    CompileError::read(Box::new(problem), "dir/hello.rhai", "hello", source).unwrap()
}

fn plain(source: &str, report: serde_json::Value) -> String {
    error(source, report).render(Stream { is_terminal: false, has_colour: false })
}

fn at(line: u32, column: u32, message: &str) -> serde_json::Value {
    json!({ "script": "hello", "line": line, "column": column, "message": message })
}

#[test]
fn a_misspelt_keyword_is_shown_with_its_likely_meaning() {
    let source = "let a = 1;\nretrun a;\n";
    let text = plain(source, at(2, 8, "Expecting ';' to terminate this statement"));
    assert_eq!(
        text,
        "\
error[compile_error]: hello does not compile
 --> dir/hello.rhai:2:8
  |
2 | retrun a;
  |        ^ Expecting ';' to terminate this statement
  |
  = help: did you mean `return` instead of `retrun`?
"
    );
}

#[test]
fn an_error_at_the_end_names_the_bracket_that_is_open() {
    let source = "fn f() {\n    if x {\n        1\n}\n";
    let text = plain(source, at(4, 2, "Script is incomplete"));
    assert_eq!(
        text,
        "\
error[compile_error]: hello does not compile
 --> dir/hello.rhai:4:2
  |
4 | }
  |  ^ Script is incomplete
  |
  = help: the '{' at line 1, column 8 is never closed
"
    );
}

#[test]
fn a_position_behind_the_last_line_is_shown_at_its_end() {
    let text = plain("let a = (1", at(9, 1, "Script is incomplete"));
    assert!(text.contains("1 | let a = (1\n  |           ^ Script is incomplete\n"), "{text}");
    assert!(text.contains("the '(' at line 1, column 9 is never closed"), "{text}");
}

#[test]
fn the_caret_stands_right_behind_tabs_and_wide_letters() {
    let text = plain("\tlet 名前 = oops here;\n", at(1, 16, "Expecting ';' to terminate this statement"));
    assert!(text.contains("1 |     let 名前 = oops here;\n  |                     ^^^^ Expecting"), "{text}");
}

#[test]
fn the_gutter_grows_with_the_line_number() {
    let source = "1;\n".repeat(99) + "var x = 1;\n";
    let text = plain(&source, at(100, 1, "'var' is a reserved keyword"));
    assert_eq!(
        text,
        "\
error[compile_error]: hello does not compile
   --> dir/hello.rhai:100:1
    |
100 | var x = 1;
    | ^^^ 'var' is a reserved keyword
    |
    = help: a variable begins with `let`
"
    );
}

#[test]
fn a_missing_semicolon_is_looked_for_where_it_is_missing() {
    let source = "let a = 1\n// why\n\nlet b = 2;\n";
    let text = plain(source, at(4, 1, "Expecting ';' to terminate this statement"));
    assert!(text.contains("help: is there a ';' missing at the end of line 1?"), "{text}");
}

#[test]
fn an_error_in_an_imported_module_shows_the_line_the_server_told() {
    let report = json!({
        "script": "math", "line": 7, "column": 9, "message": "Expecting ')'", "source_line": "let x = (1;"
    });
    let text = plain("import \"math\" as m;", report);
    assert_eq!(
        text,
        "\
error[compile_error]: math does not compile
 --> math:7:9
  |
7 | let x = (1;
  |         ^ Expecting ')'
"
    );
}

#[test]
fn without_a_position_there_is_only_the_message() {
    let text = plain("x", json!({ "message": "modules import each other: a, b, a" }));
    assert_eq!(text, "error[compile_error]: hello does not compile: modules import each other: a, b, a\n");
}

#[test]
fn without_a_column_the_whole_line_is_meant() {
    let text = plain("a;\n  b c;\n", at(2, 0, "no"));
    assert!(text.contains(" --> dir/hello.rhai:2\n  |\n2 |   b c;\n  |   ^^^^ no\n"), "{text}");
}

#[test]
fn a_minified_script_is_shown_around_the_error_only() {
    let source = format!("{}@{}", "x;".repeat(5000), "y;".repeat(5000));
    let text = plain(&source, at(1, 10_001, "Unexpected '@'"));
    assert!(text.contains("x;@y;"), "{text}");
    assert!(text.lines().all(|line| line.len() < 300), "{text}");
}

#[test]
fn a_terminal_gets_the_drawing_of_miette() {
    let error = error("let a = 1;\nretrun a;\nlast\n", at(2, 8, "Expecting ';' to terminate this statement"));
    let text = error.render(Stream { is_terminal: true, has_colour: false });
    assert_eq!(
        text,
        "\
compile_error

  × hello does not compile
   ╭─[dir/hello.rhai:2:8]
 1 │ let a = 1;
 2 │ retrun a;
   ·        ┬
   ·        ╰── Expecting ';' to terminate this statement
 3 │ last
   ╰────
  help: did you mean `return` instead of `retrun`?
"
    );
    let coloured = error.render(Stream { is_terminal: true, has_colour: true });
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

#[test]
fn a_drawing_never_fails_wherever_the_error_is() {
    for source in ["", "\n", "x", "x\n", "\n\n\n", "é\tü\r\nß\r\n", "\u{1b}[31m"] {
        for line in 0..5 {
            for column in 0..5 {
                let error = error(source, at(line, column, "no"));
                let text = error.render_graphical(GraphicalTheme::unicode_nocolor());
                assert!(text.contains("hello does not compile"), "{source:?} {line}:{column}\n{text}");
                assert!(!text.contains("error[compile_error]"), "fell back: {source:?} {line}:{column}");
                assert!(!text.contains('\u{1b}'), "{text:?}");
            }
        }
    }
}

#[test]
fn another_problem_is_given_back() {
    let problem = Problem::read(422, br#"{"title":"t","status":422,"code":"limit_out_of_range"}"#);
    assert!(CompileError::read(Box::new(problem), "f", "n", "").is_err());
}

/// What is shown for a source that the compiler itself refuses.
fn compiled(source: &str) -> String {
    let error = rhai::Engine::new().compile(source).unwrap_err();
    let position = error.position();
    let number = |n: Option<usize>| n.map_or(0, |n| u32::try_from(n).unwrap());
    plain(source, at(number(position.line()), number(position.position()), &error.err_type().to_string()))
}

#[test]
fn common_mistakes_get_the_help_that_fits() {
    let cases = [
        ("retrun 1;", "did you mean `return` instead of `retrun`?"),
        ("lett x = 1;", "did you mean `let` instead of `lett`?"),
        ("function f() { 1 }", "a function begins with `fn`"),
        ("def f() { 1 }", "a function begins with `fn`"),
        ("var x = 1;", "a variable begins with `let`"),
        ("let mut x = 1;", "every `let` variable can be changed; leave out `mut`"),
        ("let x = null;", "nothing is written `()`"),
        ("if a and b { 1 }", "write `&&`"),
        ("if a == 1 { 1 } elif b { 2 }", "write `else if`"),
        ("match x { 1 => 2 }", "write `switch`"),
        ("if a === b { 1 }", "values are compared with `==`"),
        ("a++;", "write `+= 1`"),
        ("async fn f() { 1 }", "scripts have no `async`; a call waits for its answer"),
        ("let x = 'hello';", "'…' holds a single character; a string is written \"…\" or `…`"),
        ("let x = \"hello;\n1", "a string in \"…\" ends on its own line; use `…` for text of several lines"),
        ("let a = 1\nlet b = 2;", "is there a ';' missing at the end of line 1?"),
        ("fn f() {\n  if x {\n    1\n}\n", "the '{' at line 1, column 8 is never closed"),
        ("let a = [1, 2;\n", "the '[' at line 1, column 9 is never closed"),
        ("f((1, 2);", "the '(' at line 1, column 2 is never closed"),
        ("let m = #{ a: 1;\n", "the '{' at line 1, column 10 is never closed"),
        ("log::debug(\"x\");", "`debug` is a keyword; to log, use `log::trace` or `log::info`"),
    ];
    let mut wrong = Vec::new();
    for (source, help) in cases {
        let text = compiled(source);
        if !text.ends_with(&format!("= help: {help}\n")) {
            wrong.push(format!("{source}\n  wanted: {help}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn where_nothing_is_sure_there_is_no_help() {
    for source in ["let x = get y;", "let 1 = 2;", "x = ;", "break;", "fn f(a, a) { 1 }"] {
        let text = compiled(source);
        assert!(!text.contains("help:"), "{text}");
    }
}
