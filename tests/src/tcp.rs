//! TCP clients whose connection attempts may go unanswered.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, SockRef, Socket, Type};

use crate::dns;

/// How long something that has to come may take. Retransmissions count in seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts to connect from `source`, and does not wait for the outcome.
#[track_caller]
pub fn start_connecting(source: IpAddr, server: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .unwrap_or_else(|error| panic!("cannot bind {source}: {error}"));
    socket.set_nonblocking(true).expect("a flag");
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => panic!("cannot connect from {source} to {server}: {error}"),
    }
    socket
}

/// Connects from `source`, and waits until the connection is there.
#[track_caller]
pub fn connect(source: IpAddr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .unwrap_or_else(|error| panic!("cannot bind {source}: {error}"));
    socket
        .connect_timeout(&server.into(), PATIENCE)
        .unwrap_or_else(|error| panic!("no connection from {source} to {server}: {error}"));
    patient(socket.into())
}

/// A connection from `source` to the listener, both ends of it.
#[track_caller]
pub fn pair(source: IpAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(source, listener.local_addr().expect("it is bound"));
    let (server, from) = accept(listener);
    assert_eq!(from, client.local_addr().expect("it is bound"));
    (client, server)
}

/// The next connection.
#[track_caller]
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (server, from) = listener.accept().unwrap_or_else(|error| panic!("no connection arrives: {error}"));
    (patient(server), from)
}

/// No connection waits to be accepted.
#[track_caller]
pub fn assert_no_connection(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("a flag");
    let accepted = listener.accept().map(|(_, from)| from).map_err(|error| error.kind());
    assert_eq!(accepted, Err(io::ErrorKind::WouldBlock));
    listener.set_nonblocking(false).expect("a flag");
}

/// Nothing waits to be read.
#[track_caller]
pub fn assert_no_data(stream: &TcpStream) {
    stream.set_nonblocking(true).expect("a flag");
    let received = (&*stream).read(&mut [0; 512]).map_err(|error| error.kind());
    assert_eq!(received, Err(io::ErrorKind::WouldBlock));
    stream.set_nonblocking(false).expect("a flag");
}

/// The server gets this query, answers it, and the client gets the answer (RFC 1035 §4.2.2).
#[track_caller]
pub fn assert_answers(client: &TcpStream, server: &TcpStream, query: &[u8]) {
    write_message(client, query);
    let received = read_message(server);
    assert_eq!(received, query);
    write_message(server, &dns::answer(&received));
    dns::assert_is_answer(&read_message(client), query);
}

/// Writes a message with its length in front.
#[track_caller]
pub fn write_message(mut stream: &TcpStream, message: &[u8]) {
    let len = u16::try_from(message.len()).expect("a message fits");
    stream.write_all(&[&len.to_be_bytes(), message].concat()).expect("the peer reads");
}

/// Reads a message behind its length.
#[track_caller]
pub fn read_message(mut stream: &TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).expect("the peer writes");
    let mut message = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut message).expect("the peer writes");
    message
}

#[track_caller]
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("a flag");
    stream
}
