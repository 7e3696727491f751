//! What capabilities stand on in a native test: each thread has a gateway of its own.

#[cfg(feature = "files")]
pub(crate) mod files;

#[cfg(feature = "state")]
use std::collections::BTreeMap;

use crate::log::Level;
use std::cell::RefCell;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
    /// The number of the message in its batch that it is about.
    pub message: Option<u32>,
}

/// A figure: (kind, name, value, labels).
#[cfg(feature = "metrics")]
#[allow(unreachable_pub, reason = "named by a public function")]
pub type Metric = (&'static str, String, f64, Vec<(String, String)>);

#[derive(Default)]
struct Gateway {
    lines: Vec<Line>,
    #[cfg(feature = "metrics")]
    metrics: Vec<Metric>,
    #[cfg(feature = "clock")]
    now_ms: i64,
    #[cfg(feature = "clock")]
    random: u64,
    #[cfg(feature = "state")]
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    #[cfg(feature = "secrets")]
    secrets: Vec<(String, Vec<u8>)>,
    #[cfg(feature = "http")]
    http: Option<Answer>,
}

#[cfg(feature = "http")]
type Answer = Box<dyn FnMut(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error>>;

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::default();
}

pub(crate) fn log(level: Level, text: &str, message: Option<u32>) {
    let line = Line {
        level,
        text: text.to_owned(),
        message,
    };
    GATEWAY.with_borrow_mut(|gateway| gateway.lines.push(line));
}

pub(super) fn take_lines() -> Vec<Line> {
    GATEWAY.with_borrow_mut(|gateway| std::mem::take(&mut gateway.lines))
}

#[cfg(feature = "metrics")]
pub(crate) fn metric(kind: &'static str, name: &str, value: f64, labels: &[(&str, &str)]) {
    let labels = labels
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    GATEWAY.with_borrow_mut(|gateway| gateway.metrics.push((kind, name.to_owned(), value, labels)));
}

#[cfg(feature = "metrics")]
pub(super) fn take_metrics() -> Vec<Metric> {
    GATEWAY.with_borrow_mut(|gateway| std::mem::take(&mut gateway.metrics))
}

#[cfg(feature = "clock")]
pub(crate) fn now_ms() -> i64 {
    GATEWAY.with_borrow(|gateway| gateway.now_ms)
}

#[cfg(feature = "clock")]
pub(super) fn set_clock(now_ms: i64) {
    GATEWAY.with_borrow_mut(|gateway| gateway.now_ms = now_ms);
}

/// The same bytes in every run: SplitMix64 from 0 on.
#[cfg(feature = "clock")]
pub(crate) fn random(count: u32) -> Vec<u8> {
    GATEWAY.with_borrow_mut(|gateway| {
        let byte = |_| {
            gateway.random = gateway.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = gateway.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed >> 56) as u8
        };
        (0..count).map(byte).collect()
    })
}

#[cfg(feature = "state")]
pub(crate) fn state_get(keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, crate::state::Error> {
    if keys.iter().any(|key| key.len() > KEY_MAX) {
        return Err(crate::state::Error::TooLarge);
    }
    GATEWAY.with_borrow(|gateway| Ok(keys.iter().map(|key| gateway.state.get(*key).cloned()).collect()))
}

#[cfg(feature = "state")]
pub(crate) fn state_put(entries: &[(&[u8], Option<&[u8]>)]) -> Result<(), crate::state::Error> {
    let too_large = |&(key, value): &(&[u8], Option<&[u8]>)| {
        key.len() > KEY_MAX || value.is_some_and(|value| value.len() > VALUE_MAX)
    };
    if entries.iter().any(too_large) {
        return Err(crate::state::Error::TooLarge);
    }
    GATEWAY.with_borrow_mut(|gateway| {
        for (key, value) in entries {
            match value {
                Some(value) => gateway.state.insert(key.to_vec(), value.to_vec()),
                None => gateway.state.remove(*key),
            };
        }
    });
    Ok(())
}

/// As the contract has it.
#[cfg(feature = "state")]
const KEY_MAX: usize = 1 << 10;
/// As the contract has it.
#[cfg(feature = "state")]
const VALUE_MAX: usize = 1 << 19;

#[cfg(feature = "secrets")]
pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    GATEWAY.with_borrow(|gateway| {
        let known = gateway.secrets.iter().rev().find(|(known, _)| known == name)?;
        Some(known.1.clone())
    })
}

#[cfg(feature = "secrets")]
pub(super) fn set_secret(name: &str, bytes: &[u8]) {
    GATEWAY.with_borrow_mut(|gateway| gateway.secrets.push((name.to_owned(), bytes.to_vec())));
}

/// The answers, after the gateway's own part: a request arrives with what proves who asks.
#[cfg(feature = "http")]
pub(crate) fn http(
    requests: &[crate::http::Request],
    auth: crate::http::Auth<'_>,
) -> Vec<Result<crate::http::Response, crate::http::Error>> {
    use crate::http::Auth;
    let text = |secret: &crate::secrets::Secret| String::from_utf8_lossy(&secret.bytes).into_owned();
    let proof = match auth {
        Auth::None => None,
        Auth::Bearer(secret) => Some(("authorization".to_owned(), format!("Bearer {}", text(secret)))),
        Auth::Basic(user, secret) => Some((
            "authorization".to_owned(),
            format!("Basic {user}:{}", text(secret)),
        )),
        Auth::Header(name, secret) => Some((name.to_owned(), text(secret))),
    };
    let mut answer = GATEWAY.with_borrow_mut(|gateway| gateway.http.take());
    let answers = requests
        .iter()
        .map(|request| {
            let mut request = request.clone();
            request.headers.extend(proof.clone());
            match &mut answer {
                Some(answer) => answer(&request),
                None => Err(crate::http::Error::Denied(request.url)),
            }
        })
        .collect();
    GATEWAY.with_borrow_mut(|gateway| gateway.http = answer);
    answers
}

#[cfg(feature = "http")]
pub(super) fn set_http(
    answer: impl FnMut(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error> + 'static,
) {
    GATEWAY.with_borrow_mut(|gateway| gateway.http = Some(Box::new(answer)));
}
