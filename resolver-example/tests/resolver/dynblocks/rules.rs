//! Rules of all kinds, and what does not count.

use std::{fs, path::Path};

use hickory_proto::rr::RecordType;

use super::{BURST, FRIEND, HOSTILE, blocks_of, client::Client, query_rate, serve};
use crate::{
    enforcement::enforcer::{Enforcer, stop},
    harness::{PATIENCE, SILENCE, Server, query, run, text, try_udp},
};

const OFF: &str = "[filter]\nmode = \"off\"\n";

#[test]
fn what_the_guide_says_just_works() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("it is there");
    let (_, rest) = readme.split_once("```toml\n[[dynblocks.rules]]").expect("an example");
    let (lines, _) = rest.split_once("```").expect("its end");
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &format!("[[dynblocks.rules]]{lines}"));
        let client = Client::new(HOSTILE, server.address());
        client.ask_too_much();
        assert!(Client::new(FRIEND, server.address()).ask(PATIENCE).is_some());
        let log = stop(server);
        assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
    }
}

#[test]
fn a_dry_run_blocks_nobody() {
    let server = Server::start(&format!("{OFF}{}", query_rate("block_for = \"60s\"\ndry_run = true")));
    Client::new(HOSTILE, server.address()).ask_times(BURST + 50);
    let log = stop(server);
    assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
    assert!(log.iter().any(|line| line.contains("action: nothing (dry run)")), "{log:#?}");
}

#[test]
fn who_is_excluded_is_not_counted() {
    for enforcer in Enforcer::available() {
        let exempt = "[dynblocks]\nexclude = [\"127.0.0.0/24\"]\ninclude = [\"127.0.0.2\"]\n";
        let server = serve(enforcer, &format!("{exempt}{}", query_rate("block_for = \"60s\"")));
        Client::new(FRIEND, server.address()).ask_times(2 * BURST);
        let client = Client::new(HOSTILE, server.address());
        client.ask_too_much();
        let log = stop(server);
        assert_eq!((blocks_of(&log, "127.0.0.4/32"), blocks_of(&log, "127.0.0.2/32")), (0, 1), "{log:#?}");
    }
}

#[test]
fn a_quiet_server_logs_no_blocks() {
    let server =
        Server::start(&format!("{OFF}[dynblocks]\nquiet = true\n{}", query_rate("block_for = \"60s\"")));
    let client = Client::new(HOSTILE, server.address());
    client.ask_too_much();
    let log = stop(server);
    assert_eq!(blocks_of(&log, "127.0.0.2/32"), 0, "{log:#?}");
    assert!(log.iter().any(|line| line.contains("1 active, 1 inserted")), "{log:#?}");
}

/// Rules about responses, each with a limit of ten; a name that reaches it; and one that does not.
#[test]
fn responses_count() {
    for (rule, name, harmless) in [
        ("kind = \"rcode-rate\"\nrcode = \"NXDOMAIN\"\nrate = 1", "missing.example.", "www.example."),
        (
            "kind = \"rcode-ratio\"\nrcode = \"NXDOMAIN\"\nratio = 0.5\nminimum = 11",
            "missing.example.",
            "www.example.",
        ),
        (
            "kind = \"allowed-rcodes-ratio\"\nrcodes = [\"NOERROR\"]\nratio = 0.5\nminimum = 11",
            "missing.example.",
            "www.example.",
        ),
        ("kind = \"response-byte-rate\"\nrate = 45", "www.example.", "example.test."),
        ("kind = \"qtype-rate\"\nqtype = \"A\"\nrate = 1", "www.example.", ""),
    ] {
        // No networks: they would have the same minimum of responses.
        let server = Server::start(&format!(
            "{OFF}[dynblocks]\nmask4 = 32\n[[dynblocks.rules]]\n{rule}\nblock_for = \"60s\""
        ));
        let client = Client::asking(HOSTILE, server.address(), name);
        let answered = (0..20).take_while(|_| client.ask(SILENCE).is_some()).count();
        // Some have more than 45 bytes, and a response counts right after it is sent.
        assert!((8..=14).contains(&answered), "{rule}: {answered}");
        if rule.contains("ratio") || rule.contains("rcode") {
            Client::asking(FRIEND, server.address(), harmless).ask_times(20);
        }
        stop(server);
    }
}

#[test]
fn a_name_that_everybody_asks_for_is_blocked() {
    for enforcer in Enforcer::available() {
        let rule = "[[dynblocks.rules]]\nkind = \"suffix-rate\"\nlabels = 2\nrate = 1\nblock_for = \"60s\"\n";
        let server = serve(enforcer, rule);
        for host in 1..=10 {
            let name = format!("r{host}.wild.example.");
            Client::asking([127, 0, 3, host].into(), server.address(), &name).ask_times(1);
        }
        assert!(Client::asking(HOSTILE, server.address(), "r11.wild.example.").ask(SILENCE).is_none());
        assert!(Client::asking(HOSTILE, server.address(), "www.example.").ask(PATIENCE).is_some());
        let log = stop(server);
        assert_eq!(blocks_of(&log, "*.wild.example."), 1, "{log:#?}");
    }
}

#[test]
fn who_asks_for_what_is_not_in_the_cache_is_blocked() {
    let upstream = Server::start(OFF);
    let zone = "[[zones]]\norigin = \"own.test\"\nfile = \"own.zone\"\n";
    let config = format!(
        "listen.dns = [\"127.0.0.1:0\"]\n{OFF}{zone}[forward]\nupstreams = [\"{}\"]\n[dynblocks]\nmask4 = 32\n\
         [[dynblocks.rules]]\nkind = \"cache-miss-ratio\"\nratio = 0.5\nminimum = 10\nminimum_global_hits = 0.1\nblock_for = \"60s\"",
        upstream.address()
    );
    let folder = crate::harness::Folder::new(&config);
    folder.write("own.zone", "@ 60 IN SOA ns hostmaster 1 60 60 60 60\nwww 60 IN A 192.0.2.4\n");
    let server = Server::start_in(1, folder);
    let address = server.address();
    Client::asking(FRIEND, address, "www.example.").ask_times(20);
    Client::asking(HOSTILE, address, "www.own.test.").ask_times(20);
    for name in 1..=10 {
        assert!(
            Client::asking(HOSTILE, address, &format!("r{name}.wild.example.")).ask(PATIENCE).is_some(),
            "{name}"
        );
    }
    // A response counts right after it is sent, so another query may overtake it.
    let more = (11..20).take_while(|name| {
        Client::asking(HOSTILE, address, &format!("r{name}.wild.example.")).ask(SILENCE).is_some()
    });
    assert!(more.count() < 3);
    Client::asking(FRIEND, address, "www.example.").ask_times(20);
    let log = stop(server);
    assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
    stop(upstream);
}

#[test]
fn checking_a_configuration_has_no_effect() {
    let folder = crate::harness::Folder::new(&format!(
        "[dynblocks]\nstate_file = \"blocks.json\"\n{}",
        query_rate("block_for = \"60s\"")
    ));
    let config = folder.config();
    let checked = run(&["check-config", text(&config)]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("dynamic block rules: 1"), "{said}");
    assert!(!config.with_file_name("blocks.json").exists());
}

#[test]
fn without_rules_nothing_changes() {
    let server = Server::start(&format!("{OFF}[dynblocks]\n"));
    assert!(server.start.iter().any(|line| line.contains("dynamic blocks: 0 rules")), "{:#?}", server.start);
    assert!(try_udp(server.address(), &query("www.example.", RecordType::A), PATIENCE).is_some());
    stop(server);
}
