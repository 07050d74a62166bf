//! Many clients of one network flood together.

use std::net::Ipv4Addr;

use super::{blocks_of, client::Client, query_rate, serve};
use crate::{
    enforcement::enforcer::{Enforcer, hits, stop},
    harness::{PATIENCE, SILENCE},
};

#[test]
fn a_network_is_blocked_that_floods_together() {
    for enforcer in Enforcer::available() {
        let config =
            format!("[dynblocks]\ntiers4 = [[32, 1], [24, 2]]\n{}", query_rate("block_for = \"60s\""));
        let server = serve(enforcer, &config);
        let address = server.address();
        // Twice what one client may send, by fifty.
        for host in 1..=50 {
            Client::new(Ipv4Addr::new(127, 0, 1, host), address).ask_times(8);
        }
        // A busy machine takes its time, in which more is fine.
        let more = (51..150)
            .take_while(|host| Client::new(Ipv4Addr::new(127, 0, 1, *host), address).ask(SILENCE).is_some());
        assert!(more.count() < 99, "never too much");
        assert!(Client::new(Ipv4Addr::new(127, 0, 1, 200), address).ask(SILENCE).is_none());
        assert!(Client::new(Ipv4Addr::new(127, 0, 2, 1), address).ask(PATIENCE).is_some());
        let log = stop(server);
        assert_eq!(blocks_of(&log, "127.0.1.0/24"), 1, "{log:#?}");
        assert!(hits(&log, "127.0.1.0/24") >= 1, "{log:#?}");
        assert!(log.iter().any(|line| line.contains("dynamic blocks: 1 active, 1 inserted")), "{log:#?}");
    }
}
