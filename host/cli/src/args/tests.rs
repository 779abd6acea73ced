use clap::CommandFactory;

use super::*;

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn common_options_may_stand_before_and_after_the_command() {
    for line in [["ksi", "--socket", "/s", "list"], ["ksi", "list", "--socket", "/s"]] {
        let args = Args::try_parse_from(line).expect("a good line");
        assert_eq!(args.common.socket, Some("/s".into()));
    }
}

#[test]
fn state_is_kept_in_one_folder_or_not_at_all() {
    for command in ["run", "dev"] {
        let parse = |rest: &[&str]| Args::try_parse_from([&["ksi", command], rest].concat());
        let args = parse(&["--state", "/s"]).expect("a good line");
        let (Command::Run(Run { kept_state, .. }) | Command::Dev(Dev { kept_state, .. })) =
            args.command
        else {
            panic!("{command} is another command");
        };
        assert_eq!((kept_state.state, kept_state.no_state), (Some("/s".into()), false));
        parse(&["--no-state"]).expect("a good line");
        for bad in [&["--state", "/s", "--no-state"][..], &["--state", ""], &["--state"]] {
            assert_eq!(parse(bad).expect_err(command).exit_code(), 2, "{bad:?}");
        }
    }
}

#[test]
fn emit_tells_payloads_from_options() {
    let parse = |line: &[&str]| Args::try_parse_from(line).map(|args| args.command);
    let Ok(Command::Emit(emit)) = parse(&["ksi", "emit", "a:b", "-5", "--timeout", "250ms"]) else {
        panic!("a negative number is a payload");
    };
    assert_eq!((emit.payload.as_str(), emit.timeout), ("-5", Duration::from_millis(250)));
    let Ok(Command::Emit(emit)) = parse(&["ksi", "emit", "a:b", "-"]) else {
        panic!("a dash is a payload");
    };
    assert_eq!(emit.payload, "-");
    let Ok(Command::Emit(emit)) = parse(&["ksi", "emit", "a:b"]) else {
        panic!("no payload is the empty object");
    };
    assert_eq!(emit.payload, "{}");
    for timeout in ["0s", "soon"] {
        let error = parse(&["ksi", "emit", "a:b", "--timeout", timeout]).expect_err(timeout);
        assert_eq!(error.exit_code(), 2);
    }
}
