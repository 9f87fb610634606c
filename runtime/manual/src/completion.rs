//! Completion for three shells: clap's, taught that a container's name is one that `ampoule list` tells.

use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};

const LIST: &str = "ampoule list --quiet 2>/dev/null";

/// Where each script belongs below `/usr/share`, and its text.
pub(super) fn all(command: Command) -> [(&'static str, String); 3] {
    let command = hinted(command);
    let script = |shell: Shell, command: &Command| {
        let mut text = Vec::new();
        generate(shell, &mut command.clone(), "ampoule", &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    // For bash clap only has fixed words, which it puts between double quotes: there these can be expanded.
    let bash = script(Shell::Bash, &command.clone().mut_subcommands(worded));
    let bash = bash.replace("CONTAINERS", &format!("$({LIST})")).replace("SIGNALS", "$(compgen -A signal)");
    let zsh = script(Shell::Zsh, &command).replace(":_hosts'", ":_ampoule_containers'").replace(
        "\n_ampoule() {",
        &format!("\n_ampoule_containers() {{\n    compadd -- ${{(f)\"$({LIST})\"}}\n}}\n\n_ampoule() {{"),
    );
    let verbs = command.get_subcommands().filter(|verb| verb.get_arguments().any(is_known));
    let verbs: Vec<&str> = verbs.map(Command::get_name).collect();
    let verbs = verbs.join(" ");
    let fish = script(Shell::Fish, &command)
        + &format!("complete -c ampoule -n '__fish_seen_subcommand_from {verbs}' -f -a '({LIST})'\n");
    [
        ("bash-completion/completions/ampoule", bash),
        ("zsh/site-functions/_ampoule", zsh),
        ("fish/vendor_completions.d/ampoule.fish", fish),
    ]
}

/// Folders where folders are meant. clap has no hint for containers; that of hosts stands for them.
fn hinted(command: Command) -> Command {
    let folder = |arg: Arg| match arg.get_value_names() {
        Some([name]) if name == "DIR" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    };
    command.mut_args(folder).mut_subcommands(|verb| {
        let new = ["create", "run", "plan"].contains(&verb.get_name());
        verb.mut_args(|arg| match arg.get_id() == "id" {
            // The name of a new one is nobody's to propose.
            true if new => arg,
            true => arg.value_hint(ValueHint::Hostname),
            false => folder(arg),
        })
    })
}

fn is_known(arg: &Arg) -> bool {
    arg.get_value_hint() == ValueHint::Hostname
}

fn worded(verb: Command) -> Command {
    verb.mut_args(|arg| match arg.get_id().as_str() {
        "id" if is_known(&arg) => arg.value_parser(["CONTAINERS"]),
        "signal" => arg.value_parser(["SIGNALS"]),
        _ => arg,
    })
}
