//! What a gateway takes of its host: memory and disk, from outside.

use anyhow::Context;
use culvert_tests::Gateway;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Resident memory of a running gateway, bytes.
///
/// # Errors
/// When it does not run.
pub fn resident(gateway: &Gateway) -> anyhow::Result<u64> {
    memory(gateway, "VmRSS:")
}

/// The most resident memory since [`forget_peak`], bytes.
///
/// # Errors
/// When it does not run.
pub fn peak(gateway: &Gateway) -> anyhow::Result<u64> {
    memory(gateway, "VmHWM:")
}

/// Begins to look for a new peak of resident memory (proc(5), `clear_refs`).
///
/// # Errors
/// When it does not run.
pub fn forget_peak(gateway: &Gateway) -> anyhow::Result<()> {
    let id = gateway.id().context("the gateway does not run")?;
    fs::write(format!("/proc/{id}/clear_refs"), "5").context("forget the peak of memory")
}

fn memory(gateway: &Gateway, field: &str) -> anyhow::Result<u64> {
    let id = gateway.id().context("the gateway does not run")?;
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("{field} in /proc/<id>/status"))? * 1024)
}

/// Disk that its state takes: blocks, not lengths. Files that go while one looks do not count.
pub fn disk(gateway: &Gateway) -> u64 {
    blocks(&gateway.directory().join("state"))
}

fn blocks(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => blocks(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(one).sum()
}

/// Bytes as MiB, for figures.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The value that `share` of the samples do not exceed; 0 without samples.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let place = (samples.len() as f64 * share).ceil() as usize;
    samples.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&mut samples, 0.5), 3.0);
        assert_eq!(quantile(&mut samples, 0.99), 5.0);
        assert_eq!(quantile(&mut samples, 0.0), 1.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
