//! Manual pages: what is written by hand in `pages/`, with what clap knows put in.

use anyhow::{Context, Result, ensure};
use clap::{Arg, Command};
use clap_mangen::Man;

macro_rules! pages {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../pages/", $name, ".8")))),*] };
}

/// What is written by hand. A line `.\" options` or `.\" commands` stands for what clap knows.
const WRITTEN: &[(&str, &str)] = pages![
    "ampoule",
    "ampoule-check",
    "ampoule-checkpoint",
    "ampoule-create",
    "ampoule-delete",
    "ampoule-events",
    "ampoule-exec",
    "ampoule-features",
    "ampoule-kill",
    "ampoule-list",
    "ampoule-pause",
    "ampoule-plan",
    "ampoule-ps",
    "ampoule-restore",
    "ampoule-resume",
    "ampoule-run",
    "ampoule-spec",
    "ampoule-start",
    "ampoule-state",
    "ampoule-update",
];

/// Every page: its name and its text.
///
/// # Errors
/// The verb that nobody has written about.
pub(super) fn all(command: &Command) -> Result<Vec<(String, String)>> {
    let verbs: Vec<&Command> = command.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
    ensure!(verbs.len() + 1 == WRITTEN.len(), "pages/ has one of a verb that is not there");
    let mut pages = vec![("ampoule".to_owned(), page("ampoule", command)?)];
    for verb in verbs {
        let name = format!("ampoule-{}", verb.get_name());
        let text = page(&name, verb)?;
        pages.push((name, text));
    }
    Ok(pages)
}

fn page(name: &str, command: &Command) -> Result<String> {
    let written = WRITTEN.iter().find(|(known, _)| *known == name);
    let (_, written) = written.with_context(|| format!("there is no pages/{name}.8"))?;
    // Its own name in NAME is that of the page.
    let command = command.clone().display_name(name.to_owned()).mut_args(with_values_in_line);
    let man = Man::new(command).section("8");
    // By hand, because of the date: a page has that of its version.
    let version = env!("CARGO_PKG_VERSION");
    let (title, chapter) = (name.to_uppercase(), "System Administration");
    let mut text = format!(".TH {title} 8 \"\" \"Ampoule {version}\" \"{chapter}\"\n").into_bytes();
    man.render_name_section(&mut text)?;
    for line in written.lines() {
        match line {
            ".\\\" options" => man.render_options_section(&mut text)?,
            ".\\\" commands" => man.render_subcommands_section(&mut text)?,
            line => text.extend([line.as_bytes(), b"\n"].concat()),
        }
    }
    Ok(String::from_utf8(text)?)
}

/// A list of bullets for `table` and `json` is a lot of paper.
fn with_values_in_line(arg: Arg) -> Arg {
    let values: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    match values.is_empty() || !arg.get_action().takes_values() {
        true => arg,
        false => arg.hide_possible_values(true).help(format!("{help}: {}", values.join(", "))),
    }
}
