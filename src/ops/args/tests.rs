use std::collections::BTreeSet;

use clap::{Arg, error::ErrorKind};

use super::*;

/// The command line, as it is with two providers.
fn command() -> clap::Command {
    Cli::command_naming(&[("huaweiCloud", "one"), ("cloudRu", "another")])
}

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches))
}

fn run(args: &[&str]) -> RunArgs {
    match parse(&[&["taskwatch", "run"], args].concat()).unwrap().command {
        Command::Run(args) => *args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn every_flag_of_run_is_an_environment_variable_with_a_description() {
    let command = command();
    let run = command.find_subcommand("run").unwrap();
    for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
        let expected = format!("TASKWATCH_{}", arg.get_long().unwrap().replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        assert!(arg.get_help().is_some(), "{expected}");
    }
}

#[test]
fn run_has_the_documented_defaults() {
    let args = run(&[]);
    assert!(args.namespaces.is_empty());
    assert!(args.allow_egress.is_empty());
    assert!(!args.no_cluster_connections && args.deny_auth.is_empty() && args.deny_provider.is_empty());
    assert_eq!(args.http.address, "[::]:8080".parse().unwrap());
    assert_eq!(args.probe_address, "[::]:8081".parse().unwrap());
    assert_eq!(args.log_format, LogFormat::Text);
    assert_eq!(args.progress_min_seconds, Duration::from_secs(30));
    assert_eq!(args.progress_min_points, 5);
    assert_eq!(args.secret_refresh_seconds, Duration::from_secs(30));
    assert_eq!((args.workers, args.threads), (16, 1));
    assert_eq!((args.api_writes_per_second, args.child_creates_per_second.to_bits()), (1000, 50_f64.to_bits()));
    assert!(args.discovery);
    assert_eq!(args.drain_timeout_seconds, Duration::from_secs(8));
    let rates = |args: &RunArgs| [args.max_requests_per_second, args.max_requests_per_second_per_namespace];
    assert_eq!(rates(&args).map(|rate| rate.to_string()), ["500", "250"]);
    assert!(rates(&run(&["--max-requests-per-second", "0"]))[0].is_infinite());
}

#[test]
fn lists_are_repeated_or_separated_by_commas() {
    let args = run(&["--namespace", "a,b", "--namespace", "c", "--allow-egress", "10.1.2.3/16,::1"]);
    assert_eq!(args.namespaces, ["a", "b", "c"]);
    assert_eq!(args.allow_egress, ["10.1.0.0/16".parse::<Allowance>().unwrap(), "::1/128".parse().unwrap()]);
}

#[test]
fn sets_are_served_unless_told_otherwise() {
    for (argument, served) in [("--discovery=false", false), ("--discovery=true", true)] {
        assert_eq!(run(&[argument]).discovery, served);
    }
    assert!(!run(&["--discovery", "false"]).discovery);
}

#[test]
fn kinds_are_denied_by_the_names_of_the_api() {
    let args = run(&["--deny-auth", "token,oauth2", "--deny-provider", "cloudRu"]);
    assert_eq!(args.deny_auth, [AuthName::Token, AuthName::OAuth2]);
    assert_eq!(args.deny_provider, ["cloudRu"]);
    for name in AuthName::value_variants() {
        assert_eq!(name.to_possible_value().unwrap().get_name(), name.as_str());
    }
}

#[test]
fn the_page_for_administrators_shows_what_can_be_given() {
    let page = include_str!("../../../docs/administration.md");
    let command = command();
    let known: Vec<_> = command.find_subcommand("run").unwrap().get_arguments().filter_map(Arg::get_long).collect();
    let is_flag = |word: &&str| word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic));
    let words = page.split(|c: char| !c.is_ascii_lowercase() && c != '-').filter(is_flag);
    let named: BTreeSet<_> = words.filter_map(|word| word.strip_prefix("--")).filter(|name| *name != "help").collect();
    for name in &named {
        assert!(known.contains(name), "--{name} is no flag");
    }
    let limits =
        ["egress", "http", "upstream", "deny", "cluster-connections", "discovery", "per-second", "per-namespace"];
    for name in known.iter().filter(|name| limits.iter().any(|part| name.contains(part))) {
        assert!(named.contains(name) || *name == "http-address", "--{name} is not on the page");
    }
    let examples: Vec<_> = page.lines().filter(|line| line.starts_with("--")).collect();
    assert!(examples.len() > 4, "{examples:?}");
    for example in examples {
        let words = example.split_whitespace().take_while(|word| *word != "#");
        run(&words.collect::<Vec<_>>());
    }
}

#[test]
fn the_cluster_resource_namespace_is_the_flag_then_the_pods_then_a_constant() {
    let pod = || Some("pod".to_owned());
    let flag = run(&["--cluster-resource-namespace", "flag"]);
    assert_eq!(flag.cluster_resource_namespace_or(pod()), "flag");
    assert_eq!(run(&[]).cluster_resource_namespace_or(pod()), "pod");
    assert_eq!(run(&[]).cluster_resource_namespace_or(Some(String::new())), DEFAULT_NAMESPACE);
    assert_eq!(run(&[]).cluster_resource_namespace_or(None), DEFAULT_NAMESPACE);
}

#[test]
fn what_cannot_be_used_is_a_usage_error_that_says_what_to_give() {
    for (args, hint) in [
        (["run", "--allow-egress", "ten"], "10.1.0.0/16"),
        (["run", "--upstream-proxy", "socks5://proxy"], "http://HOST:PORT"),
        (["run", "--upstream-no-proxy", "a b"], ".example.com"),
        (["run", "--deny-egress", "10.0.0.0/8:443"], "10.1.0.0/16"),
        (["run", "--progress-min-points", "0"], "1..=100"),
        (["run", "--drain-timeout-seconds", "301"], "0 to 300"),
        (["run", "--log-level", "taskwatch=loud"], "invalid"),
        (["run", "--discovery", "no"], "true, false"),
        (["run", "--child-creates-per-second", "100001"], "0 for no limit"),
        (["run", "--max-requests-per-second", "0.5"], "0 for no limit"),
        (["run", "--http-address", "here"], "socket address"),
        (["run", "--otlp-endpoint", "collector:4317"], "http://HOST:4318"),
        (["run", "--http-tls-cert", "cert.pem"], "--http-tls-key"),
        (["decode", "--http-status", "99"], "100 to 599"),
        (["decode", "--header", "Retry-After"], "Name: value"),
    ] {
        let error = parse(&[&["taskwatch"], &args[..]].concat()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(hint), "{error}");
    }
    let help = parse(&["taskwatch", "--help"]).unwrap_err();
    assert_eq!(help.kind(), ErrorKind::DisplayHelp);
    assert!(help.to_string().contains("Exit codes:"));
}

#[test]
fn decode_takes_header_fields_and_a_file() {
    let args =
        ["taskwatch", "decode", "--provider", "cloudRu", "--http-status", "429", "--header", "Retry-After: 30", "a"];
    let Command::Decode(args) = parse(&args).unwrap().command else { panic!() };
    assert_eq!(args.provider, "cloudRu");
    assert_eq!(args.http_status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(args.headers, [(::http::header::RETRY_AFTER, HeaderValue::from_static("30"))]);
    assert_eq!(args.file, Some(PathBuf::from("a")));
}
