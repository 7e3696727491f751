//! The plugin's own figures, shown as `culvert_plugin_<name>`. Needs no grant.
//!
//! At most 100 names and 1,000 sets of labels for an instance; what is above is counted and left out.

/// Adds to a counter.
pub fn count(name: &str, by: u64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    crate::bindings::capabilities::culvert::plugin::metrics::count(name, by, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::metric("count", name, by as f64, labels);
}

/// Sets a figure that goes up and down.
pub fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    crate::bindings::capabilities::culvert::plugin::metrics::gauge(name, value, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::metric("gauge", name, value, labels);
}

/// Adds a value to a distribution.
pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    crate::bindings::capabilities::culvert::plugin::metrics::observe(name, value, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::metric("observe", name, value, labels);
}

#[cfg(target_family = "wasm")]
fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
