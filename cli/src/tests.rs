use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command).map_err(|error| error.kind())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn up_has_the_defaults_of_the_documentation() {
    let Ok(Command::Up(args)) = parse("dunlin up") else { panic!() };
    assert_eq!(args.data.to_str(), Some(".dunlin"));
    assert_eq!(args.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(args.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(args.max_component, dunlin_events::units::ByteSize::mib(100));
    assert_eq!(format!("{args:?}"), format!("{:?}", up::UpArgs::defaults().unwrap()));
}

#[test]
fn a_wrong_command_line_is_told() {
    assert_eq!(parse("dunlin").unwrap_err(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    assert_eq!(parse("dunlin up --tls-cert a").unwrap_err(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse("dunlin up --workers 0").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin up --max-component 5").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin show Not_A_Name").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin invoke a b").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin invoke a -H nocolon").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin dev --server http://a --data b").unwrap_err(), ErrorKind::ArgumentConflict);
    assert_eq!(parse("dunlin deplyo").unwrap_err(), ErrorKind::InvalidSubcommand);
    assert_eq!(parse("dunlin publish a").unwrap_err(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse("dunlin publish a --ndjson --key k").unwrap_err(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse("dunlin publish a --ndjson --type t --id 1").unwrap_err(), ErrorKind::ArgumentConflict);
    assert_eq!(parse("dunlin publish A --type t").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin events tail a --from 1 --last 2").unwrap_err(), ErrorKind::ArgumentConflict);
    assert_eq!(parse("dunlin topics set a --max-age soon").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin consumers seek a b --to end").unwrap_err(), ErrorKind::ValueValidation);
    assert_eq!(parse("dunlin dead-letters redrive").unwrap_err(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse("dunlin dead-letters drop 1 --all").unwrap_err(), ErrorKind::ArgumentConflict);
    assert_eq!(parse("dunlin state get carts a").unwrap_err(), ErrorKind::ValueValidation);
    for line in [
        "dunlin deploy --dry-run --server http://a --token t",
        "dunlin invoke a /x?y=1 -X DELETE -H a:b -H c:d -d - -i",
        "dunlin logs -f a -n 5",
        "dunlin rollback a --to 3",
        "dunlin remove a --yes",
        "dunlin completions zsh",
        "dunlin publish a.b -t t -d @f --key k -a x=y --attribute z= --subject s --source /s --id 1 --content-type a/b",
        "dunlin publish a --ndjson --type t --key k",
        "dunlin events tail a -f --since 1h -n 5 --json",
        "dunlin events show a 5",
        "dunlin topics --json",
        "dunlin topics set a --max-age none --max-size 10GiB --max-count 5",
        "dunlin topics remove a --force -y",
        "dunlin topics trim a --before 5",
        "dunlin consumers",
        "dunlin consumers seek a b --to 2026-01-01T00:00:00Z -y",
        "dunlin dead-letters list --function a -n 5",
        "dunlin dead-letters redrive 1 2",
        "dunlin dead-letters drop --function a --topic b -y",
        "dunlin state list shared:a --prefix x",
        "dunlin state set function:a k/l -",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn a_token_is_not_in_the_help() {
    for name in ["up", "list"] {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert!(help.contains("[env: DUNLIN_TOKEN]"), "{help}");
    }
}
