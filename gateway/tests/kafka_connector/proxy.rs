//! A TCP proxy before a broker that can lose or delay the requests that end a transaction.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// `EndTxn` in the Kafka protocol.
const END_TXN: [u8; 2] = [0, 26];

/// What to do with the next `EndTxn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Pass it on, and break the connection instead of passing the answer back.
    LoseAnswer,
    /// Keep it, and break the client's side of the connection; [`Proxy::release`] passes it on later.
    Delay,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    delayed: Option<(TcpStream, Vec<u8>)>,
    /// The answer to a request whose client is gone.
    late: Option<Vec<u8>>,
    target: u16,
}

impl Proxy {
    pub(crate) fn start() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                thread::spawn(move || join(&client, &state));
            }
        });
        Proxy { port, state }
    }

    pub(crate) fn forward_to(&self, port: u16) {
        self.lock().target = port;
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Whether the fault that was asked for has happened.
    pub(crate) fn failed(&self) -> bool {
        self.lock().fault.is_none()
    }

    /// Passes the delayed request on and waits for the broker's answer to it: its error code.
    pub(crate) fn release(&self) -> i16 {
        let (mut broker, request) = self.lock().delayed.take().expect("a delayed request");
        broker.write_all(&request).expect("the broker still listens");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = self.lock().late.take() {
                // u32 size, u32 correlation id, u32 throttle time, i16 error code (EndTxn version 1)
                return i16::from_be_bytes([answer[12], answer[13]]);
            }
            assert!(Instant::now() < deadline, "the broker does not answer");
            thread::yield_now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }
}

fn join(client: &TcpStream, state: &Arc<Mutex<State>>) {
    let target = state.lock().map(|state| state.target).unwrap_or_default();
    let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
        return;
    };
    let (Ok(mut answers), Ok(mut back)) = (broker.try_clone(), client.try_clone()) else {
        return;
    };
    let delayed = Arc::new(Mutex::new(false));
    let (silent, shared) = (delayed.clone(), state.clone());
    thread::spawn(move || {
        while let Ok(answer) = frame(&mut answers) {
            if *silent.lock().expect("held shortly") {
                shared.lock().expect("no test panics while it holds this").late = Some(answer);
                break;
            }
            if back.write_all(&answer).is_err() {
                break;
            }
        }
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = pass_requests(client, &broker, state, &delayed);
    let _ = client.shutdown(Shutdown::Both);
    if !*delayed.lock().expect("held shortly") {
        let _ = broker.shutdown(Shutdown::Both);
    }
}

fn pass_requests(
    mut client: &TcpStream,
    mut broker: &TcpStream,
    state: &Mutex<State>,
    delayed: &Mutex<bool>,
) -> io::Result<()> {
    loop {
        let request = frame(&mut client)?;
        let mut state = state.lock().expect("no test panics while it holds this");
        match state.fault {
            Some(Fault::LoseAnswer) if request[4..6] == END_TXN => {
                *delayed.lock().expect("held shortly") = true;
                broker.write_all(&request)?;
                state.fault = None;
                return Ok(());
            }
            Some(Fault::Delay) if request[4..6] == END_TXN => {
                *delayed.lock().expect("held shortly") = true;
                state.delayed = Some((broker.try_clone()?, request));
                state.fault = None;
                return Ok(());
            }
            _ => broker.write_all(&request)?,
        }
    }
}

/// A whole request or answer, with its size before it.
fn frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut bytes = vec![0; 4 + u32::from_be_bytes(size) as usize];
    bytes[..4].copy_from_slice(&size);
    stream.read_exact(&mut bytes[4..])?;
    Ok(bytes)
}
