//! Projects: making, showing and removing them.
//!
//! Invariant: who puts something into a project has asked [`World::check_project`] under the same
//! lock, or in the same transaction, in which it is stored. So nothing goes into one that is gone.

use std::collections::BTreeMap;

use knit_rpc::Timestamp;
use knit_rpc::api::{FieldProblem, ProjectView};
use knit_rpc::id::ProjectName;
use knit_runtime::clock;
use knit_server_core::projects;

use super::bounds::problem;
use super::{App, AppError, World};
use crate::store::{self, Store, StoreError};

const PROJECTS_MAX: usize = 1000;

/// Reads the projects; `default` is made when it is missing.
pub(super) async fn load(store: &Store) -> Result<BTreeMap<ProjectName, Timestamp>, StoreError> {
    let mut write = store.begin().await?;
    store::projects::put(&mut write, &ProjectName::default(), clock::now()).await?;
    store::commit(write).await?;
    store.projects().await
}

impl World {
    /// Says what is wrong when there is no such project.
    pub fn check_project(&self, project: &ProjectName) -> Result<(), FieldProblem> {
        if self.projects.contains_key(project) {
            return Ok(());
        }
        Err(problem("project", &projects::unknown_in_field(project)))
    }
}

impl App {
    /// The projects that `shown` lets through, by name.
    pub async fn projects(
        &self,
        shown: impl Fn(&ProjectName) -> bool,
    ) -> Result<Vec<ProjectView>, AppError> {
        let world = self.world().await;
        let mut views = Vec::new();
        for (name, created_at) in world.projects.iter().filter(|(name, _)| shown(name)) {
            let mut contents = projects::contents(&world.snapshot, name);
            self.store.count_in_project(name, &mut contents).await?;
            views.push(ProjectView { name: name.clone(), created_at: *created_at, contents });
        }
        Ok(views)
    }

    pub async fn project(&self, project: &ProjectName) -> Result<ProjectView, AppError> {
        let found = self.projects(|name| name == project).await?;
        found.into_iter().next().ok_or_else(|| AppError::NotFound(projects::unknown(project)))
    }

    /// Refuses a project that does not exist.
    pub async fn expect_project(&self, project: &ProjectName) -> Result<(), AppError> {
        let missing = |_: FieldProblem| AppError::NotFound(projects::unknown(project));
        self.world().await.check_project(project).map_err(missing)
    }

    pub async fn create_project(&self, name: &ProjectName) -> Result<ProjectView, AppError> {
        let mut world = self.world().await;
        if world.projects.contains_key(name) {
            return Err(AppError::Conflict(format!("project {name} exists already")));
        }
        if world.projects.len() >= PROJECTS_MAX {
            let message = format!("there are {PROJECTS_MAX} projects already: remove some");
            return Err(AppError::Conflict(message));
        }
        let now = clock::now();
        let mut write = self.store.begin().await?;
        store::projects::put(&mut write, name, now).await?;
        store::commit(write).await?;
        world.projects.insert(name.clone(), now);
        drop(world);
        tracing::info!(project = %name, "a project was made");
        self.project(name).await
    }

    /// Removes a project that nothing is in and that no token names.
    pub async fn remove_project(&self, name: &ProjectName) -> Result<(), AppError> {
        let mut world = self.world().await;
        if !world.projects.contains_key(name) {
            return Err(AppError::NotFound(projects::unknown(name)));
        }
        let changing = self.tokens.changing().await;
        let mut contents = projects::contents(&world.snapshot, name);
        let mut write = self.store.begin().await?;
        store::projects::count(&mut write, name, &mut contents).await?;
        let tokens = self.tokens.naming(name);
        if let Some(why) = projects::why_it_stays(name, contents, &tokens) {
            return Err(AppError::Conflict(why));
        }
        store::projects::remove(&mut write, name).await?;
        // Nor does a session open what is made under this name later.
        let vouched = self.sessions.vouched_for(name);
        for session in &vouched {
            store::sessions::remove(&mut write, session).await?;
        }
        store::commit(write).await?;
        self.sessions.forget(&vouched);
        world.projects.remove(name);
        drop(changing);
        tracing::info!(project = %name, "a project was removed");
        Ok(())
    }
}
