//! What `make install` puts beside the programs: manual pages, and completion for three shells.

use ampoule_tests::{Runtime, Scratch, ampoule_only, place, require, workspace};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const WHY: &str = "the pages and the completion are ampoule's";

/// Ends a test where there is nothing that it is about.
macro_rules! where_it_is_built {
    () => {
        ampoule_only!(WHY);
        require!(place() == "host", "what make build made", named "the test machine gets the programs alone");
    };
}

/// What `make build` made to be installed.
fn share(file: &str) -> PathBuf {
    let path = workspace().join("target/share").join(file);
    assert!(path.exists(), "there is no {}: make build", path.display());
    path
}

/// A command's output; it must end well and have nothing to complain about.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{command:?}: {complaints}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn help(words: &[&str]) -> String {
    output(Command::new(Runtime::get().program()).args(words).arg("--help"))
}

/// The long flags that a `--help` tells.
pub(crate) fn flags(help: &str) -> Vec<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
    words.map(str::to_owned).collect()
}

/// Every verb with its flags, as the program itself tells them.
fn verbs() -> BTreeMap<String, Vec<String>> {
    let help_of_all = help(&[]);
    let lines = help_of_all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    let verbs: BTreeMap<_, _> = names.map(|name| (name.to_owned(), flags(&help(&[name])))).collect();
    assert!(verbs.len() >= 17, "{verbs:?}");
    verbs
}

/// A page as a reader sees it, without a word of warning.
fn page(path: &Path) -> String {
    let mut man = Command::new("man");
    man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "400").env("MANPAGER", "cat");
    output(man.args(["--warnings", "--local-file"]).arg(path))
}

#[test]
fn every_verb_has_a_page_with_all_its_flags() {
    where_it_is_built!();
    for (verb, flags) in verbs() {
        let text = page(&share(&format!("man/man8/ampoule-{verb}.8")));
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "SEE ALSO"] {
            assert!(text.lines().any(|line| line == section), "ampoule-{verb}(8) has no {section}:\n{text}");
        }
        for flag in flags {
            assert!(text.contains(&flag), "ampoule-{verb}(8) has no {flag}:\n{text}");
        }
    }
}

#[test]
fn the_page_of_ampoule_has_the_verbs_and_the_global_flags() {
    where_it_is_built!();
    let text = page(&share("man/man8/ampoule.8"));
    for word in verbs().into_keys().map(|verb| format!("ampoule-{verb}(8)")).chain(flags(&help(&[]))) {
        assert!(text.contains(&word), "ampoule(8) has no {word}:\n{text}");
    }
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"] {
        assert!(text.contains(section), "{section}");
    }
}

#[test]
fn the_page_of_pause_has_its_flags() {
    where_it_is_built!();
    let text = page(&share("man/man1/pause.1"));
    let flags = "-e -g --grace -P -p -s -v -w -V --version -h -l -L".split(' ');
    let told = output(Command::new(workspace().join("target/bin/pause")).arg("-h"));
    for flag in flags {
        let known = flag.len() > 2 || "hlL".contains(&flag[1..]) || told.contains(&flag[1..]);
        assert!(known, "pause -h has no {flag}: {told}");
        assert!(text.contains(flag), "pause(1) has no {flag}:\n{text}");
    }
}

#[test]
fn the_page_of_the_shells_shim_has_its_verbs_and_flags() {
    where_it_is_built!();
    let text = page(&share("man/man1/ampoule-shim.1"));
    let program = workspace().join("target/bin/ampoule-shim");
    let help = |words: &[&str]| output(Command::new(&program).args(words).arg("--help"));
    let all = help(&[]);
    let lines = all.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: Vec<_> = lines.map_while(|line| line.split_whitespace().next()).collect();
    assert_eq!(verbs, ["run", "attach", "wait", "logs", "list", "rm"]);
    for verb in verbs {
        assert!(text.contains(&format!("ampoule-shim {verb}")), "ampoule-shim(1) has no {verb}:\n{text}");
        for flag in flags(&all).into_iter().chain(flags(&help(&[verb]))) {
            assert!(text.contains(&flag), "ampoule-shim(1) has no {flag} of {verb}:\n{text}");
        }
    }
}

#[test]
fn the_page_of_containerds_shim_has_every_option_that_is_documented() {
    where_it_is_built!();
    let text = page(&share("man/man8/containerd-shim-ampoule-v2.8"));
    let documented = fs::read_to_string(workspace().join("docs/shim.md")).unwrap();
    let rows = documented.lines().skip_while(|line| !line.starts_with("| option")).skip(2);
    let words: Vec<_> = rows
        .map_while(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|cell| cell.split(", "))
        .map(|word| word.trim_matches('`'))
        .collect();
    assert!(words.len() >= 9, "{words:?}");
    for word in words {
        assert!(text.contains(word), "containerd-shim-ampoule-v2(8) has no {word}:\n{text}");
    }
}

/// A folder with an `ampoule` that knows one container, `web`.
fn one_container() -> Scratch {
    let scratch = Scratch::new();
    let program = scratch.path().join("ampoule");
    fs::write(&program, "#!/bin/sh\n[ \"$*\" = 'list --quiet' ] && echo web\n").unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    scratch
}

fn shell(name: &str, programs: &Scratch) -> Command {
    let mut shell = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", programs.path().display())).env("HOME", programs.path());
    shell
}

/// Checks what a shell proposes at the end of a line. `proposals` gives one list of words for each line.
fn check(proposals: impl Fn(&[String]) -> Vec<Vec<String>>) {
    let mut wanted: Vec<(String, Vec<String>)> = vec![("ampoule --".into(), flags(&help(&[])))];
    let verbs = verbs();
    wanted.push(("ampoule ".into(), verbs.keys().cloned().collect()));
    wanted.extend(verbs.into_iter().map(|(verb, flags)| (format!("ampoule {verb} --"), flags)));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    wanted.push(("ampoule list --format ".into(), words("table json")));
    wanted.push(("ampoule plan --host h".into(), words("hybrid")));
    wanted.push(("ampoule exec we".into(), words("web")));
    wanted.push(("ampoule delete --force ".into(), words("web")));
    let lines: Vec<_> = wanted.iter().map(|(line, _)| line.clone()).collect();
    let proposed = proposals(&lines);
    assert_eq!(proposed.len(), lines.len(), "{proposed:?}");
    for ((line, wanted), proposed) in wanted.iter().zip(proposed) {
        let lacking: Vec<_> = wanted.iter().filter(|word| !proposed.contains(word)).collect();
        assert_eq!(lacking, [""; 0], "after {line:?} there is only {proposed:?}");
    }
}

#[test]
fn bash_completes_verbs_flags_values_and_containers() {
    where_it_is_built!();
    let (script, programs) = (share("bash-completion/completions/ampoule"), one_container());
    output(Command::new("bash").arg("-n").arg(&script));
    const ASK: &str = r#"source "$0"; complete -p ampoule >/dev/null || exit
        for line; do
            read -ra COMP_WORDS <<<"$line"
            [[ $line = *' ' ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _ampoule ampoule "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
            echo "${COMPREPLY[*]}"
        done"#;
    check(|lines| {
        let mut bash = shell("bash", &programs);
        let text = output(bash.args(["--norc", "-c", ASK]).arg(&script).args(lines));
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    });
}

#[test]
fn fish_completes_verbs_flags_values_and_containers() {
    where_it_is_built!();
    let (script, programs) = (share("fish/vendor_completions.d/ampoule.fish"), one_container());
    let ask = "source $argv[1]; for line in $argv[2..]; complete -C $line; echo; end";
    check(|lines| {
        let mut fish = shell("fish", &programs);
        let text = output(fish.args(["--no-config", "-c", ask]).arg(&script).args(lines));
        let word = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
        text.trim_end().split("\n\n").map(|list| list.lines().map(word).collect()).collect()
    });
}

#[test]
fn zsh_completes_verbs_flags_values_and_containers() {
    where_it_is_built!();
    let (script, programs) = (share("zsh/site-functions/_ampoule"), one_container());
    output(Command::new("zsh").arg("-n").arg(&script));
    // It completes nowhere but in a line editor: one word each that can be but one, and then the line is told.
    const ASK: &str = r#"zmodload zsh/zpty
        scripts=$1 told=$2; shift 2
        zpty shell zsh -f -i
        zpty -w shell "PS1=; fpath=($scripts \$fpath); autoload -U compinit; compinit -u -D"
        zpty -w shell "tell() { print -r -- \$BUFFER >>$told; zle kill-whole-line }; zle -N tell; bindkey '^T' tell"
        for line; do zpty -w -n shell "$line"$'\t\x14'; done
        zpty -w shell exit
        while zpty -r shell line; do :; done"#;
    let whole = [
        "ampoule features",
        "ampoule run --detach",
        "ampoule --systemd-cgroup",
        "ampoule update --mem-bw-schema",
        "ampoule list --format json",
        "ampoule kill web",
    ];
    let told = programs.path().join("told");
    let mut zsh = shell("zsh", &programs);
    zsh.args(["-f", "-c", ASK, "zsh"]).arg(script.parent().unwrap()).arg(&told);
    output(zsh.args(whole.map(|line| &line[..line.len() - 2])));
    let told = fs::read_to_string(told).expect("zsh told its lines");
    let told: Vec<_> = told.lines().map(|line| line.trim_end().trim_end_matches('=')).collect();
    assert_eq!(told, whole);
}

#[test]
fn install_puts_all_of_it_below_the_prefix_and_uninstall_takes_it_back() {
    where_it_is_built!();
    let scratch = Scratch::new();
    let files = || {
        let text =
            output(Command::new("find").arg(scratch.path()).args(["-type", "f", "-printf", "%P %m\n"]));
        let mut files: Vec<_> = text.lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    let make = |target: &str| {
        let destination = format!("DESTDIR={}", scratch.path().display());
        output(Command::new("make").current_dir(workspace()).args([target, &destination, "PREFIX=/usr"]));
    };
    make("install");
    let installed = files();
    for file in [
        "usr/bin/ampoule 755",
        "usr/bin/pause 755",
        "usr/bin/containerd-shim-ampoule-v2 755",
        "usr/share/bash-completion/completions/ampoule 644",
        "usr/share/fish/vendor_completions.d/ampoule.fish 644",
        "usr/share/man/man1/ampoule-shim.1 644",
        "usr/share/man/man1/pause.1 644",
        "usr/share/man/man8/ampoule.8 644",
        "usr/share/man/man8/containerd-shim-ampoule-v2.8 644",
        "usr/share/zsh/site-functions/_ampoule 644",
    ] {
        assert!(installed.iter().any(|f| f == file), "{file}: {installed:?}");
    }
    make("uninstall");
    assert_eq!(files(), [""; 0]);
}
