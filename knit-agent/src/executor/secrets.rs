//! Secrets on their way into containers.

use knit_agent_core::Wanted;
use knit_agent_core::container::ContainerPlan;
use knit_agent_core::secrets;
use knit_rpc::id::InstanceId;

use super::{Executor, Failure};
use crate::files::FilesError;

impl Executor {
    /// What the container finds of them: files in memory, and variables, opened only now.
    pub(super) fn add_secrets(
        &self,
        plan: &mut ContainerPlan,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
        let directory = self.files.secrets.directory(&wanted.assigned.id);
        plan.mounts.extend(secrets::mounts(&wanted.spec, &directory));
        let variables = self.files.secrets.variables(wanted).map_err(FilesError::from);
        plan.secret_env = variables.map_err(|error| failure(&error))?;
        Ok(())
    }

    /// New files, then the signals, then the note that all is done: whatever is cut off is done
    /// again.
    pub(super) async fn refresh(
        &self,
        id: &InstanceId,
        wanted: &Wanted,
        container: &str,
        signals: &[String],
    ) -> Result<(), Failure> {
        self.files.refresh(wanted).map_err(|error| failure(&error))?;
        for signal in signals {
            self.engine.signal(container, signal).await?;
        }
        self.files.secrets.note(wanted).map_err(|error| failure(&error))?;
        tracing::info!(instance.id = %id, container, ?signals, "secrets were replaced");
        Ok(())
    }
}

fn failure(error: &FilesError) -> Failure {
    Failure::of_files(error, error.is_permanent())
}
