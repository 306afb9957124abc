//! What Docker shows of a container, as the agent's core looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerState as Shown, ContainerStateStatusEnum, HealthConfig,
    HealthStatusEnum,
};
use knit_agent_core::observed::{HealthState, Healthcheck};
use knit_agent_core::{Container, ContainerState};
use knit_rpc::Timestamp;

/// None when Docker shows no id or state, which then is no container to speak of.
pub(super) fn container(inspected: ContainerInspectResponse) -> Option<Container> {
    let state = inspected.state?;
    let config = inspected.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let healthcheck = healthcheck(&state, &config.healthcheck.unwrap_or_default());
    let networks = inspected.network_settings.and_then(|settings| settings.networks);
    let endpoints = networks.unwrap_or_default();
    // One that does not run keeps its networks' names, but hangs on none.
    let on: BTreeSet<String> = endpoints
        .iter()
        .filter(|(_, endpoint)| endpoint.endpoint_id.as_ref().is_some_and(|id| !id.is_empty()))
        .map(|(name, _)| name.clone())
        .collect();
    let addresses: BTreeMap<String, Ipv4Addr> = endpoints
        .into_iter()
        .filter_map(|(name, endpoint)| Some((name, endpoint.ip_address?.parse().ok()?)))
        .collect();
    Some(Container {
        id: inspected.id?,
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: labels.into_iter().collect(),
        state: kind(&state)?,
        networks: on,
        addresses,
        image_id: inspected.image,
        started_at: moment(state.started_at.as_deref()),
        finished_at: moment(state.finished_at.as_deref()),
        exit_code: state.exit_code,
        error: state.error.unwrap_or_default(),
        healthcheck,
    })
}

/// Docker's own defaults, where the image leaves them out.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30);
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Characters of an answer that are kept.
const ANSWER_CHARS_MAX: usize = 200;

fn healthcheck(state: &Shown, config: &HealthConfig) -> Option<Healthcheck> {
    let health = state.health.as_ref().filter(|_| state.running == Some(true))?;
    let span = |nanos: Option<i64>, default: Duration| match nanos.map(u64::try_from) {
        Some(Ok(nanos @ 1..)) => Duration::from_nanos(nanos),
        _ => default,
    };
    let answer = health.log.iter().flatten().next_back().map(|last| {
        let output = last.output.as_deref().unwrap_or_default();
        let output: Vec<&str> = output.split_whitespace().collect();
        let code = last.exit_code.map(|code| format!("exit code {code}"));
        let said = Some(output.join(" ")).filter(|said| !said.is_empty());
        let parts: Vec<String> = code.into_iter().chain(said).collect();
        parts.join(": ").chars().take(ANSWER_CHARS_MAX).collect::<String>()
    });
    Some(Healthcheck {
        state: match health.status? {
            HealthStatusEnum::STARTING => HealthState::Starting,
            HealthStatusEnum::HEALTHY => HealthState::Healthy,
            HealthStatusEnum::UNHEALTHY => HealthState::Unhealthy,
            HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => return None,
        },
        first_within: span(config.start_period, Duration::ZERO)
            + span(config.interval, INTERVAL_DEFAULT)
            + span(config.timeout, TIMEOUT_DEFAULT),
        answer: answer.unwrap_or_default(),
    })
}

fn kind(state: &Shown) -> Option<ContainerState> {
    Some(match state.status? {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING => {
            ContainerState::Running
        }
        ContainerStateStatusEnum::PAUSED => ContainerState::Paused,
        ContainerStateStatusEnum::EXITED => ContainerState::Exited,
        ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::STOPPING => {
            ContainerState::Removing
        }
        ContainerStateStatusEnum::DEAD => ContainerState::Dead,
        ContainerStateStatusEnum::EMPTY => return None,
    })
}

/// Docker writes the year 1 for "never".
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let at: jiff::Timestamp = text?.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().filter(|at| *at > 0).map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_moments_are_read() {
        assert_eq!(
            moment(Some("2026-11-20T12:00:00.123456789Z")),
            Some(Timestamp::from_millis(1_795_176_000_123))
        );
        assert_eq!(moment(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(moment(Some("")), None);
        assert_eq!(moment(None), None);
    }
}
