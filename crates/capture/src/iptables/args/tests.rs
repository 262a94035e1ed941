//! The flags that injection templates pass, and how they are read.

use super::*;

fn config(flags: &[&str]) -> Result<Config, String> {
    let all = ["istio-iptables"].iter().chain(flags);
    let args = Args::try_parse_from(all).map_err(|error| error.to_string())?;
    args.config().map_err(|error| error.to_string())
}

#[test]
fn the_injected_arguments_are_understood() {
    let flags = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -b * -d 15090,15021,15020 --log_output_level=default:info";
    let mut flags: Vec<_> = flags.split(' ').collect();
    flags.extend(["-x", ""]);
    assert_eq!(config(&flags), Ok(Config::default()));
}

#[test]
fn lists_are_read() {
    let got = config(&[
        "-i",
        "10.0.0.0/8, 192.168.1.1",
        "-b",
        "80,443",
        "-u",
        "1337,0",
        "-o",
        "25",
    ]);
    let got = got.expect("the flags are right");
    let nets = ["10.0.0.0/8", "192.168.1.1/32"].map(|net| net.parse().expect("a CIDR"));
    assert_eq!(got.outbound_ranges, Ranges::Only(nets.to_vec()));
    assert_eq!(got.inbound_ports, Ranges::Only(vec![80, 443]));
    assert_eq!(got.proxy_uids, [1337, 0]);
    assert_eq!(got.exclude_outbound_ports, [25]);
}

#[test]
fn groups_are_numbers_or_all() {
    let got = config(&["--owner-groups", "7,8", "--owner-groups-exclude", "9"]);
    let got = got.expect("the flags are right");
    assert_eq!(got.owner_groups, Ranges::Only(vec![7, 8]));
    assert_eq!(got.exclude_owner_groups, [9]);
    let error = config(&["--owner-groups", "java"]).expect_err("a name");
    let want = "ISTIO_OUTBOUND_OWNER_GROUPS: \"java\" is not a list of user or group numbers";
    assert!(error.contains(want), "{error}");
}

#[test]
fn bad_values_are_named() {
    let check = |flags: &[&str], needle: &str| {
        let error = config(flags).expect_err("the flags are wrong");
        assert!(error.contains(needle), "{error}");
    };
    check(
        &["-i", "10.0.0.0/99"],
        "--istio-service-cidr: \"10.0.0.0/99\" is not a CIDR",
    );
    check(
        &["-b", "http"],
        "--istio-inbound-ports: \"http\" is not a list of ports",
    );
    check(
        &["-m", "TPROXY"],
        "interception mode TPROXY is not supported",
    );
    check(&["--cni-mode"], "--cni-mode is not supported");
    check(&["--probe-timeout", "soon"], "not a duration");
}
