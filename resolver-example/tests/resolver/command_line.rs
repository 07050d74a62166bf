//! Commands that end by themselves, and the messages of those that fail.

use std::net::{TcpListener, UdpSocket};

use crate::harness::{Folder, failure, program, run, text};

#[test]
fn help_and_version_name_the_program() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["serve", "check-config", "--config", "SIGTERM", "dig @127.0.0.1"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let version = run(&["--version"]);
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("resolver-example ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn wrong_usage_is_told() {
    assert!(failure(&run(&["no-such-command"]), 2).contains("no-such-command"));
    assert!(failure(&run(&["check-config"]), 2).contains("check-config FILE"));
    assert!(failure(&run(&["check-config", "a", "--config", "b"]), 2).contains("one file"));
}

#[test]
fn check_config_reads_zones_too() {
    let folder = Folder::new("[[zones]]\norigin = \"a.test\"\nfile = \"a.zone\"");
    let config = folder.config();

    let missing = failure(&run(&["check-config", text(&config)]), 2);
    assert!(
        missing.starts_with("error: cannot read the zone file ") && missing.contains("a.zone"),
        "{missing}"
    );
    assert!(missing.contains("caused by: No such file"), "{missing}");

    folder.write("a.zone", "@ 60 IN SOA ns hostmaster 1 60 60 60 60\nwww 60 IN A 192.0.2.400\n");
    let wrong = failure(&run(&["check-config", "--config", text(&config)]), 2);
    assert!(wrong.contains("a.zone:2: "), "{wrong}");

    folder.write("a.zone", "@ 60 IN SOA ns hostmaster 1 60 60 60 60\nwww 60 IN A 192.0.2.4\n");
    let right = run(&["check-config", text(&config)]);
    assert!(right.status.success());
    let right = String::from_utf8(right.stdout).unwrap();
    assert!(right.contains("config.toml: ok; ") && right.contains("zones: 1, records: 2;"), "{right}");
}

#[test]
fn check_config_accepts_the_example() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    assert!(run(&["check-config", example]).status.success());
}

#[test]
fn check_config_opens_no_socket() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new(&format!(
        "listen.dns = [\"{}\"]\nfilter.mode = \"require\"",
        taken.local_addr().unwrap()
    ));
    assert!(run(&["check-config", text(&folder.config())]).status.success());
}

#[test]
fn wrong_configurations_are_told_with_file_and_line() {
    for (config, place, words) in [
        ("[listen]\ndsn = []", ":2:1: ", "`dsn`, expected `dns` or `udp_sockets`"),
        ("[[filter.rules]]\nkind = \"regex\"\nvalue = \"a\"", ":2:8: ", "`regex`"),
        ("[[filter.rules]]\nkind = \"range\"\nvalue = \"192.0.2.0\"", ":3:9: ", "rule 1"),
        (
            "[[filter.rules]]\nkind = \"qname\"\nvalue = \"a\"\nexpires_in = \"0s\"",
            ":4:14: ",
            "expires_in = \"0s\"",
        ),
        ("[[filter.rules]]\nkind = \"qname\"\nvalue = \"a\"\nqtype = \"X\"", ":4:9: ", "rule 1"),
    ] {
        let folder = Folder::new(config);
        let path = folder.config();
        for args in [["check-config", text(&path)], ["--config", text(&path)]] {
            let message = failure(&run(&args), 2);
            let prefix = format!("error: {}{place}", path.display());
            assert!(message.starts_with(&prefix) && message.contains(words), "{message}");
        }
    }
}

#[test]
fn an_address_in_use_is_named() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [udp.local_addr().unwrap(), tcp.local_addr().unwrap()] {
        let folder = Folder::new(&format!("listen.dns = [\"{address}\"]\nfilter.mode = \"off\""));
        let message = failure(&run(&["serve", "--config", text(&folder.config())]), 1);
        assert!(
            message.contains(&format!("error: cannot listen on {address}: another program")),
            "{message}"
        );
        assert!(message.contains("caused by: Address already in use"), "{message}");
    }
}

#[test]
fn a_log_filter_that_does_not_parse_is_told() {
    let output = program().env("RUST_LOG", "info,,=").output().unwrap();
    assert!(failure(&output, 1).contains("RUST_LOG"), "{output:?}");
}
