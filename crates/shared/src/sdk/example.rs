//! An example and what it claims: a line may say what its expression gives, `// => value`, or with what
//! code it fails, `// throws code`.

use std::fmt::Write;

use serde::Serialize;

const GIVES: &str = " // => ";
const THROWS: &str = " // throws ";

/// Lines of Rhai, at least one of which says what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Example(String);

impl Example {
    pub(super) fn parse(lines: &[&str]) -> Result<Self, String> {
        let text = lines.join("\n");
        if !text.contains(GIVES) && !text.contains(THROWS) {
            return Err(
                "an example says what a line gives (`// => value`) or throws (`// throws code`)".to_owned()
            );
        }
        Ok(Self(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A script that fails unless each line does what it says.
    pub fn as_test(&self) -> String {
        let mut script = String::new();
        for line in self.0.lines() {
            let written = if let Some((code, value)) = line.split_once(GIVES) {
                let code = bare(code);
                write!(
                    script,
                    "{{ let got = {code}; let want = {value}; if type_of(got) != type_of(want) || got != want \
                     {{ throw \"\" + got + \" is not \" + want; }} }}"
                )
            } else if let Some((code, thrown)) = line.split_once(THROWS) {
                let code = bare(code);
                write!(
                    script,
                    "{{ let seen = (); try {{ {code}; }} catch (error) {{ seen = error; }} \
                     if seen == () || seen.code != \"{thrown}\" {{ throw \"threw \" + seen; }} }}"
                )
            } else {
                write!(script, "{line}")
            };
            written.expect("a string takes all that is written");
            script.push('\n');
        }
        script
    }
}

fn bare(code: &str) -> &str {
    code.trim().trim_end_matches(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_claims_nothing_is_none() {
        assert!(Example::parse(&["let a = 1;"]).is_err());
        let example = Example::parse(&["let a = 1;", "a + 1; // => 2", "f() // throws bad"]).unwrap();
        let test = example.as_test();
        let lines: Vec<&str> = test.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("let got = a + 1; let want = 2;"), "{test}");
        assert!(lines[2].contains("seen.code != \"bad\""), "{test}");
    }
}
