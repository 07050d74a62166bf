//! `Guarded` in front of a real hickory-server, asked over loopback. User space enforces: no privilege is needed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use ebpf_filter::{
    Action, BpfFilter, Match, Mode, Rule,
    dynblock::{DynBlockGroup, DynBlockGroupBuilder, Ladder, Penalty, Rate, Ratio, Subject},
    hickory::{Cookies, Guarded},
};
use hickory_proto::{
    op::{Edns, Message, Metadata, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{
            TXT,
            opt::{EdnsCode, EdnsOption},
        },
    },
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, UdpSocket},
    time::timeout,
};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const MINUTE: Penalty = Penalty::block_for(Duration::from_secs(60));

/// Answers with a code or a size that the name asks for.
struct Answers;

#[async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut records = Vec::new();
        if let Ok(info) = request.request_info() {
            let (name, text) = (Name::from(info.query.name()), info.query.name().to_string());
            match text.split('.').next() {
                Some("missing") => metadata.response_code = ResponseCode::NXDomain,
                Some("badvers") => metadata.response_code = ResponseCode::BADVERS,
                Some("big") => {
                    let text = TXT::new(vec!["x".repeat(200)]);
                    records = vec![Record::from_rdata(name, 60, RData::TXT(text)); 4];
                }
                _ => records.push(Record::from_rdata(name, 60, RData::A(Ipv4Addr::new(192, 0, 2, 1).into()))),
            }
        } else {
            metadata.response_code = ResponseCode::FormErr;
        }
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload());
            edns
        });
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        response.send_response(builder.build(metadata, &records, [], [], [])).await.unwrap()
    }
}

fn filter() -> BpfFilter {
    BpfFilter::builder().mode(Mode::Off).build().unwrap()
}

/// A group whose blocks go into `filter`.
fn group(
    filter: &BpfFilter,
    rules: impl FnOnce(DynBlockGroupBuilder) -> DynBlockGroupBuilder,
) -> DynBlockGroup {
    rules(DynBlockGroup::builder().filter(filter.clone()).quiet()).build().unwrap()
}

/// A server that goes on until it is dropped.
struct Serving {
    address: SocketAddr,
    _server: Server<Guarded<Answers>>,
}

async fn serve(handler: Guarded<Answers>) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::new(handler);
    server.register_socket(UdpSocket::bind(address).await.unwrap());
    server.register_listener(listener, Duration::from_secs(5), 32);
    Serving { address, _server: server }
}

fn query(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// The bytes of an answer over UDP, if there is one.
async fn bytes_from(source: Ipv4Addr, server: SocketAddr, query: &Message) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((source, 0)).await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = timeout(Duration::from_millis(400), socket.recv(&mut buffer)).await.ok()?.unwrap();
    buffer.truncate(length);
    Some(buffer)
}

async fn ask(source: Ipv4Addr, server: SocketAddr, query: &Message) -> Option<Message> {
    bytes_from(source, server, query).await.map(|bytes| Message::from_vec(&bytes).unwrap())
}

async fn ask_over_tcp(source: Ipv4Addr, server: SocketAddr, query: &Message) -> Option<Message> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let mut stream = socket.connect(server).await.unwrap();
    let bytes = query.to_vec().unwrap();
    stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let length = timeout(Duration::from_millis(400), stream.read_u16()).await.ok()?.ok()?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    Some(Message::from_vec(&bytes).unwrap())
}

/// Asks so often that a limit of so many is exceeded, and says whether the next query is answered.
async fn answered_after(times: usize, server: SocketAddr, name: &str) -> bool {
    for time in 0..times {
        assert!(ask(CLIENT, server, &with_edns(name)).await.is_some(), "{time}");
    }
    ask(CLIENT, server, &with_edns(name)).await.is_some()
}

fn with_edns(name: &str) -> Message {
    let mut query = query(name);
    query.edns = Some(Edns::new());
    query
}

/// So many at once, and next to none after that.
const fn at_once(events: u32) -> Rate {
    Rate::per_second(1).over(Duration::from_secs(events as u64))
}

fn is_blocked(group: &DynBlockGroup) -> bool {
    group.block_of(&Subject::address(CLIENT)).is_some()
}

#[tokio::test]
async fn queries_above_the_limit_get_no_answer() {
    let filter = filter();
    // Everybody is counted once, however many there are who look.
    filter
        .insert(Rule::new(Match::range("127.0.0.0/8".parse::<ipnet::IpNet>().unwrap()), Action::Count))
        .unwrap();
    let group = group(&filter, |group| group.query_rate(at_once(3), MINUTE));
    let serving = serve(Guarded::new(filter.clone(), Answers).with_dynblocks(group.clone())).await;

    assert!(!answered_after(3, serving.address, "www.example.").await);
    assert!(is_blocked(&group));
    assert!(
        ask_over_tcp(CLIENT, serving.address, &query("www.example.")).await.is_none(),
        "over TCP as well"
    );
    assert!(ask(OTHER, serving.address, &query("www.example.")).await.is_some());
    let stats = filter.stats().unwrap();
    let counted = stats.rules.iter().find(|rule| rule.rule.action == Action::Count).unwrap();
    assert_eq!(counted.hits, 4, "three and one of the other client; the rest ends at the block");
}

#[tokio::test]
async fn queries_without_a_question_count_too() {
    let filter = filter();
    let group = group(&filter, |group| group.query_rate(at_once(2), MINUTE));
    let serving = serve(Guarded::new(filter, Answers).with_dynblocks(group.clone())).await;
    for _ in 0..2 {
        let answer = ask(CLIENT, serving.address, &Message::query()).await.unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
    assert!(ask(CLIENT, serving.address, &Message::query()).await.is_none());
    assert!(is_blocked(&group));
}

#[tokio::test]
async fn response_codes_count_with_all_their_bits() {
    for (code, name) in [(3, "missing.example."), (16, "badvers.example.")] {
        let filter = filter();
        let group = group(&filter, |group| group.rcode_rate(code, at_once(2), MINUTE));
        let serving = serve(Guarded::new(filter, Answers).with_dynblocks(group.clone())).await;
        assert!(answered_after(4, serving.address, "www.example.").await, "another code");
        // The third response is the one above the limit.
        assert!(!answered_after(3, serving.address, name).await);
        assert!(is_blocked(&group));
    }
}

#[tokio::test]
async fn bytes_count_as_they_are_sent() {
    let plain = serve(Guarded::new(filter(), Answers)).await;
    let unlimited = group(&filter(), |group| {
        group.response_byte_rate(Rate::per_second(1_000_000), MINUTE).masks(32, 128)
    });
    let measured = serve(Guarded::new(filter(), Answers).with_dynblocks(unlimited)).await;
    let edns = |max: u16| {
        let mut query = with_edns("big.example.");
        query.edns.as_mut().unwrap().set_max_payload(max);
        query
    };
    for (asked, truncated) in [
        (query("big.example."), true),
        (edns(700), true),
        (edns(4096), false),
        (with_edns("badvers.example."), false),
    ] {
        let expected = bytes_from(CLIENT, plain.address, &asked).await.unwrap();
        assert_eq!(Message::from_vec(&expected).unwrap().metadata.truncation, truncated);
        // hickory-server leaves the beginning of a record behind that has no room.
        let sent = bytes_from(CLIENT, measured.address, &asked).await.unwrap();
        assert_eq!(Message::from_vec(&sent).unwrap(), Message::from_vec(&expected).unwrap());
        assert!(expected.starts_with(&sent) && (truncated || expected == sent));
        let size = u32::try_from(sent.len()).unwrap();

        let filter = filter();
        // Two of these, and not a byte more.
        let group = group(&filter, |group| {
            group.response_byte_rate(Rate::per_second(1).over(Duration::from_secs((2 * size).into())), MINUTE)
        });
        let serving = serve(Guarded::new(filter, Answers).with_dynblocks(group.clone())).await;
        for _ in 0..2 {
            assert_eq!(bytes_from(CLIENT, serving.address, &asked).await.unwrap(), sent);
            assert!(!is_blocked(&group));
        }
        assert!(bytes_from(CLIENT, serving.address, &asked).await.is_some());
        assert!(is_blocked(&group), "{size} bytes");
        assert!(ask_over_tcp(CLIENT, serving.address, &query("www.example.")).await.is_none());
    }
}

#[tokio::test]
async fn who_says_what_came_from_the_cache_is_asked() {
    let filter = filter();
    let group = group(&filter, |group| {
        group.masks(32, 128).cache_miss_ratio(Ratio::above(0.5).at_least(3), 0.1, MINUTE)
    });
    let handler = Guarded::new(filter, Answers).with_dynblocks(group.clone()).cache_hits(|request, info| {
        assert_eq!(info.response_code, ResponseCode::NoError);
        Some(request.request_info().ok()?.query.name().to_string().starts_with("hit"))
    });
    let serving = serve(handler).await;
    assert!(ask(OTHER, serving.address, &query("hit.example.")).await.is_some());
    assert!(!answered_after(3, serving.address, "new.example.").await);
    assert!(is_blocked(&group));
}

#[tokio::test]
async fn another_filter_than_that_of_the_group_is_asked_too() {
    let (ours, theirs) = (filter(), filter());
    let group = group(&theirs, |group| group.query_rate(at_once(100), MINUTE));
    ours.block(IpAddr::from(CLIENT)).unwrap();
    let serving = serve(Guarded::new(ours, Answers).with_dynblocks(group)).await;
    assert!(ask(CLIENT, serving.address, &query("www.example.")).await.is_none());
    assert!(ask(OTHER, serving.address, &query("www.example.")).await.is_some());
    theirs.insert(Rule::new(Match::address(OTHER), Action::Refused)).unwrap();
    let refused = ask(OTHER, serving.address, &query("www.example.")).await.unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
}

fn with_cookie(name: &str, cookie: &[u8]) -> Message {
    let mut query = with_edns(name);
    let options = query.edns.as_mut().unwrap().options_mut();
    options.insert(EdnsOption::Unknown(EdnsCode::Cookie.into(), cookie.into()));
    query
}

fn cookie_in(answer: &Message) -> Option<Vec<u8>> {
    let option = answer.edns.as_ref()?.option(EdnsCode::Cookie)?;
    let EdnsOption::Unknown(_, bytes) = option else { panic!("{option:?}") };
    Some(bytes.clone())
}

#[tokio::test]
async fn cookies_are_given_and_prove_who_asks() {
    let filter = filter();
    let group = group(&filter, |group| group.query_rate(at_once(4), MINUTE.ladder(Ladder::new())));
    let handler = Guarded::new(filter.clone(), Answers).with_dynblocks(group.clone());
    let serving = serve(handler.with_cookies(Cookies::random().unwrap())).await;

    let without = ask(CLIENT, serving.address, &with_edns("www.example.")).await.unwrap();
    assert_eq!(cookie_in(&without), None, "nobody has asked for one");
    let malformed = ask(CLIENT, serving.address, &with_cookie("www.example.", &[1; 9])).await.unwrap();
    assert_eq!(malformed.metadata.response_code, ResponseCode::FormErr);
    let answer = ask(CLIENT, serving.address, &with_cookie("www.example.", &[1; 8])).await.unwrap();
    assert_eq!(answer.answers.len(), 1);
    let cookie = cookie_in(&answer).unwrap();
    assert_eq!((cookie.len(), &cookie[..8]), (24, &[1; 8][..]));

    // Three queries that may be forged have been counted; those with the cookie are counted apart.
    for _ in 0..4 {
        let answer = ask(CLIENT, serving.address, &with_cookie("www.example.", &cookie)).await.unwrap();
        assert_eq!(cookie_in(&answer).unwrap().len(), 24);
        assert!(!is_blocked(&group));
    }
    assert!(ask(CLIENT, serving.address, &with_cookie("www.example.", &cookie)).await.is_none());
    assert_eq!(group.block_of(&Subject::address(CLIENT)).unwrap().action, Action::Drop);

    // The cookie of one client is no good for another.
    for _ in 0..4 {
        assert!(ask(OTHER, serving.address, &with_cookie("www.example.", &cookie)).await.is_some());
    }
    let _ = ask(OTHER, serving.address, &with_cookie("www.example.", &cookie)).await;
    assert_eq!(group.block_of(&Subject::address(OTHER)).unwrap().action, Action::Slip(2));
}
