//! That `docs/jail.md` says what the code does: the same steps in the same order, the same calls.

use super::rules::RULES;

const CODE: &str = include_str!("mod.rs");
const PAGE: &str = include_str!("../../../../docs/jail.md");

#[test]
fn the_page_has_the_steps_of_the_code_in_its_order() {
    // A line of code ends with its number and why it stands there.
    let number = |line: &str| line.split_once("; // ")?.1.split_once(':')?.0.parse::<u32>().ok();
    let mut steps: Vec<u32> = CODE.lines().filter_map(number).collect();
    steps.dedup();
    let row = |line: &str| line.strip_prefix("| ")?.split_once(" |")?.0.parse::<u32>().ok();
    let rows: Vec<u32> = PAGE.lines().filter_map(row).collect();
    assert_eq!(steps, (1..=17).collect::<Vec<_>>());
    assert_eq!(rows, steps);
}

#[test]
fn the_page_names_every_call_on_the_list_and_how_many_they_are() {
    let section =
        PAGE.split("\n## ").find(|section| section.starts_with("The list of system calls")).unwrap();
    let missing: Vec<_> =
        RULES.iter().map(|rule| rule.name).filter(|name| !section.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(section.contains(&format!("{} calls", RULES.len())));
}
