//! A network between two gateways that loses datagrams and can be cut.

use super::bench::free_address;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Passes datagrams between whoever sends to it and one target. Stops when dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

struct State {
    cut: AtomicBool,
    mute: AtomicBool,
    target: SocketAddr,
    loss: f64,
    dice: Mutex<ChaCha8Rng>,
    first: Mutex<Option<Vec<u8>>>,
    calls: AtomicUsize,
    hung_up: Notify,
}

impl Relay {
    /// Loses the share `loss` of all datagrams, the same ones for the same `seed` and traffic.
    pub(super) async fn to(target: SocketAddr, loss: f64, seed: u64) -> Relay {
        let address = free_address();
        let socket = UdpSocket::bind(address).await.unwrap();
        let state = Arc::new(State {
            cut: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            target,
            loss,
            dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            first: Mutex::new(None),
            calls: AtomicUsize::new(0),
            hung_up: Notify::new(),
        });
        let mut task = JoinSet::new();
        task.spawn(relay(socket, Arc::clone(&state)));
        Relay {
            address,
            state,
            tasks: task,
        }
    }

    pub(super) fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::SeqCst);
    }

    /// Passes TCP too, at the same port, whether datagrams pass or not.
    pub(super) async fn with_tcp(mut self) -> Relay {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let state = Arc::clone(&self.state);
        self.tasks.spawn(async move {
            let mut both = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                state.calls.fetch_add(1, Ordering::SeqCst);
                both.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(state.target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = state.hung_up.notified() => {}
                    }
                });
            }
        });
        self
    }

    /// TCP connections that were made.
    pub(super) fn calls(&self) -> usize {
        self.state.calls.load(Ordering::SeqCst)
    }

    /// Ends all TCP connections that there are.
    pub(super) fn hang_up(&self) {
        self.state.hung_up.notify_waiters();
    }

    /// Whether answers are dropped: the sender then looks like one that forged its address.
    pub(super) fn mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::SeqCst);
    }

    /// The first datagram that went through: the Initial of a handshake.
    pub(super) fn first(&self) -> Vec<u8> {
        self.state.first.lock().clone().unwrap()
    }
}

impl State {
    fn passes(&self) -> bool {
        let lucky = self.dice.lock().random::<f64>() >= self.loss;
        lucky && !self.cut.load(Ordering::SeqCst)
    }
}

/// One socket towards the target for each sender, as a NAT would have it.
async fn relay(socket: UdpSocket, state: Arc<State>) {
    let socket = Arc::new(socket);
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
        state.first.lock().get_or_insert_with(|| buffer[..size].to_vec());
        let way = match ways.entry(from) {
            Entry::Occupied(way) => way.into_mut(),
            Entry::Vacant(none) => {
                let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                back.spawn(answer(
                    Arc::clone(&way),
                    Arc::clone(&socket),
                    from,
                    Arc::clone(&state),
                ));
                none.insert(way)
            }
        };
        if state.passes() {
            let _ = way.send_to(&buffer[..size], state.target).await;
        }
    }
}

async fn answer(way: Arc<UdpSocket>, socket: Arc<UdpSocket>, to: SocketAddr, state: Arc<State>) {
    let mut buffer = vec![0; 65_536];
    loop {
        if let Ok((size, _)) = way.recv_from(&mut buffer).await
            && state.passes()
            && !state.mute.load(Ordering::SeqCst)
        {
            let _ = socket.send_to(&buffer[..size], to).await;
        }
    }
}
