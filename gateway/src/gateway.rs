//! The composition root: builds every room, and owns the order in which they start and stop.

use crate::config::Config;
use crate::observe::health::Health;
use crate::observe::stop::Stop;
use crate::observe::{self, http, metrics, systemd};

/// Runs a gateway until `stop`.
///
/// # Errors
/// What kept it from starting.
pub async fn run(config: Config, stop: Stop) -> Result<(), observe::Error> {
    let health = Health::new();
    let telemetry = http::Server::bind(config.telemetry.listen, health.clone(), metrics::install()?).await?;
    systemd::ready("serving");
    tracing::info!(gateway = config.gateway, site = config.site, "gateway serves");
    telemetry.run(stop.drain().clone()).await;
    systemd::stopping();
    Ok(())
}
