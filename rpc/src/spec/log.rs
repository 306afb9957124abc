//! Bounds of a container's log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Log driver when the spec says nothing: the one that `docker logs` reads everywhere.
pub const LOG_DRIVER_DEFAULT: &str = "json-file";
/// Size of one log file when the spec says nothing, in Docker's notation.
pub const LOG_MAX_SIZE_DEFAULT: &str = "10m";
/// Log files kept when the spec says nothing.
pub const LOG_MAX_FILES_DEFAULT: u32 = 3;

/// Bounds of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogSpec {
    /// Docker's log driver; with another than `json-file` or `local` no bounds are passed on.
    #[serde(default = "log_driver_default", skip_serializing_if = "is_log_driver_default")]
    pub driver: String,
    /// Size of one file in Docker's notation, such as `10m`.
    pub max_size: String,
    pub max_files: u32,
}

impl LogSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for LogSpec {
    fn default() -> Self {
        Self {
            driver: log_driver_default(),
            max_size: LOG_MAX_SIZE_DEFAULT.to_owned(),
            max_files: LOG_MAX_FILES_DEFAULT,
        }
    }
}

fn log_driver_default() -> String {
    LOG_DRIVER_DEFAULT.to_owned()
}

fn is_log_driver_default(driver: &str) -> bool {
    driver == LOG_DRIVER_DEFAULT
}
