//! What is wrong with a deployment before anything is stored.

use knit_rpc::api::FieldProblem;
use knit_rpc::spec::{DeploymentSpec, REPLICAS_MAX};

use crate::eligibility::ASSIGNMENT_BYTES_MAX;
use crate::ledger::spec_bytes;

/// A spec that was found to be sound.
///
/// Invariant: only [`validate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSpec(DeploymentSpec);

impl ValidSpec {
    pub fn get(&self) -> &DeploymentSpec {
        &self.0
    }

    pub fn into_inner(self) -> DeploymentSpec {
        self.0
    }
}

/// Checks a spec, or returns every problem by field.
pub fn validate(spec: DeploymentSpec) -> Result<ValidSpec, Vec<FieldProblem>> {
    let problem =
        |field: String, message: String| FieldProblem { field, message, line: None, column: None };
    let mut problems: Vec<FieldProblem> =
        spec.check().into_iter().map(|(field, message)| problem(field, message)).collect();
    if spec.replicas > REPLICAS_MAX {
        problems.push(problem(
            "replicas".to_owned(),
            format!("is {}; at most {REPLICAS_MAX} are possible", spec.replicas),
        ));
    }
    let bytes = spec_bytes(&spec.instance);
    if bytes > ASSIGNMENT_BYTES_MAX {
        problems.push(problem(
            String::new(),
            format!(
                "the spec takes {} KiB; at most {} KiB reach a node in one message",
                bytes / 1024,
                ASSIGNMENT_BYTES_MAX / 1024
            ),
        ));
    }
    if problems.is_empty() { Ok(ValidSpec(spec)) } else { Err(problems) }
}
