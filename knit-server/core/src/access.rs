//! Who may do what: the one place that decides it.
//!
//! | action | least role | for |
//! |---|---|---|
//! | look at a project's deployments, volumes, networks | viewer | that project |
//! | look at the nodes | viewer | any project |
//! | deploy, scale, stop, remove, with networks and volumes | deployer | that project |
//! | deploy what reaches into its host | operator | that project |
//! | make and remove projects | admin | all |
//! | take nodes in and out of use | operator | all |
//! | make, see and revoke tokens | admin | what the token holds for |
//! | read the audit | admin | all |

use std::fmt;

use knit_rpc::access::{Role, Scope};
use knit_rpc::id::ProjectName;

/// Somebody who asks for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// In words, for the audit and for refusals: `token ci (3f9a12cd)`.
    pub name: String,
    pub role: Role,
    pub scope: Scope,
}

/// What can be done with the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Look at what a project has.
    View,
    /// Look at the nodes, and at what belongs to no project.
    ViewNodes,
    /// Deploy and all that changes what a project has.
    Deploy,
    /// Deploy what reaches into its host: privileged, its network, its files, more capabilities.
    DeployPrivileged,
    /// Make and remove projects.
    ManageProjects,
    /// Take nodes in and out of use.
    ManageNodes,
    /// Make, see and revoke tokens.
    ManageTokens,
    /// Read who did what.
    ReadAudit,
}

impl Action {
    pub const ALL: [Self; 8] = [
        Self::View,
        Self::ViewNodes,
        Self::Deploy,
        Self::DeployPrivileged,
        Self::ManageProjects,
        Self::ManageNodes,
        Self::ManageTokens,
        Self::ReadAudit,
    ];

    const fn least_role(self) -> Role {
        match self {
            Self::View | Self::ViewNodes => Role::Viewer,
            Self::Deploy => Role::Deployer,
            Self::DeployPrivileged | Self::ManageNodes => Role::Operator,
            Self::ManageProjects | Self::ManageTokens | Self::ReadAudit => Role::Admin,
        }
    }

    /// Completes "to … takes".
    const fn words(self) -> &'static str {
        match self {
            Self::View => "look",
            Self::ViewNodes => "look at the nodes",
            Self::Deploy => "change anything",
            Self::DeployPrivileged => "deploy what reaches into its host",
            Self::ManageProjects => "make and remove projects",
            Self::ManageNodes => "manage nodes",
            Self::ManageTokens => "manage tokens",
            Self::ReadAudit => "read the audit",
        }
    }
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// Something of a project.
    Project(&'a ProjectName),
    /// What belongs to no project.
    Cluster,
    /// A token that holds there.
    Token(&'a Scope),
}

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    actor: String,
    has: Role,
    scope: Scope,
    action: Action,
    project: Option<ProjectName>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.scope.words();
        let (words, needs) = (self.action.words(), self.action.least_role());
        write!(f, "{} is {} of {of}: to {words}", self.actor, self.has)?;
        match (&self.project, self.action) {
            (Some(project), _) => write!(f, " in project {project} takes {needs} there"),
            (None, Action::ManageTokens) => write!(f, " takes {needs} wherever they hold"),
            (None, Action::ViewNodes) => write!(f, " takes {needs}"),
            (None, _) => write!(f, " takes {needs} of all projects"),
        }?;
        Ok(())
    }
}

/// Says whether `actor` may do `action` to `resource`, and why not.
pub fn allowed(actor: &Actor, action: Action, resource: Resource<'_>) -> Result<(), Denied> {
    let is_in_scope = match resource {
        Resource::Project(project) => actor.scope.has(project),
        Resource::Cluster => action == Action::ViewNodes || actor.scope == Scope::All,
        Resource::Token(scope) => actor.scope.covers(scope),
    };
    if is_in_scope && actor.role >= action.least_role() {
        return Ok(());
    }
    let project = match resource {
        Resource::Project(project) => Some(project.clone()),
        Resource::Cluster | Resource::Token(_) => None,
    };
    let (has, scope) = (actor.role, actor.scope.clone());
    Err(Denied { actor: actor.name.clone(), has, scope, action, project })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projects(names: &[&str]) -> Scope {
        Scope::Projects(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    fn actor(role: Role, scope: Scope) -> Actor {
        Actor { name: "token t (00000000)".to_owned(), role, scope }
    }

    /// Every action on every kind of resource: the least role of all, and of project `shop` alone.
    #[test]
    fn every_pair_of_role_and_action() {
        use Action::{
            Deploy, DeployPrivileged, ManageNodes, ManageProjects, ManageTokens, ReadAudit, View,
            ViewNodes,
        };
        use Role::{Admin, Deployer, Operator, Viewer};
        let (shop, other): (ProjectName, ProjectName) =
            ("shop".parse().unwrap(), "other".parse().unwrap());
        let (in_shop, everywhere) = (projects(&["shop"]), Scope::All);
        let table: [(Action, Resource<'_>, Role, Option<Role>); 16] = [
            (View, Resource::Project(&shop), Viewer, Some(Viewer)),
            (View, Resource::Project(&other), Viewer, None),
            (View, Resource::Cluster, Viewer, None),
            (ViewNodes, Resource::Cluster, Viewer, Some(Viewer)),
            (Deploy, Resource::Project(&shop), Deployer, Some(Deployer)),
            (Deploy, Resource::Project(&other), Deployer, None),
            (Deploy, Resource::Cluster, Deployer, None),
            (DeployPrivileged, Resource::Project(&shop), Operator, Some(Operator)),
            (DeployPrivileged, Resource::Project(&other), Operator, None),
            (ManageProjects, Resource::Cluster, Admin, None),
            (ManageNodes, Resource::Cluster, Operator, None),
            (ManageTokens, Resource::Cluster, Admin, None),
            (ManageTokens, Resource::Token(&in_shop), Admin, Some(Admin)),
            (ManageTokens, Resource::Token(&everywhere), Admin, None),
            (ReadAudit, Resource::Cluster, Admin, None),
            (ReadAudit, Resource::Project(&shop), Admin, Some(Admin)),
        ];
        for (action, resource, of_all, of_shop) in table {
            for role in Role::ALL {
                let all = allowed(&actor(role, Scope::All), action, resource).is_ok();
                assert_eq!(all, role >= of_all, "{role} of all, {action:?} {resource:?}");
                let shop = allowed(&actor(role, in_shop.clone()), action, resource).is_ok();
                let expected = of_shop.is_some_and(|least| role >= least);
                assert_eq!(shop, expected, "{role} of shop, {action:?} {resource:?}");
                let nowhere = actor(role, projects(&[]));
                let allowed = allowed(&nowhere, action, resource).is_ok();
                assert_eq!(allowed, action == ViewNodes, "{role} of nothing, {action:?}");
            }
        }
    }

    #[test]
    fn a_greater_role_may_do_no_less() {
        let shop: ProjectName = "shop".parse().unwrap();
        for action in Action::ALL {
            for resource in [Resource::Project(&shop), Resource::Cluster] {
                for scope in [Scope::All, projects(&["shop"]), projects(&["a", "b"])] {
                    let may = |role| allowed(&actor(role, scope.clone()), action, resource).is_ok();
                    let may: Vec<bool> = Role::ALL.into_iter().map(may).collect();
                    assert!(may.is_sorted(), "{action:?} {resource:?} {scope:?}: {may:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_says_who_and_what_it_takes() {
        let shop: ProjectName = "shop".parse().unwrap();
        for (role, scope, action, resource, expected) in [
            (
                Role::Viewer,
                projects(&["shop"]),
                Action::Deploy,
                Resource::Project(&shop),
                "token t (00000000) is viewer of project shop: to change anything in project shop \
                 takes deployer there",
            ),
            (
                Role::Deployer,
                Scope::All,
                Action::ManageNodes,
                Resource::Cluster,
                "token t (00000000) is deployer of all projects: to manage nodes takes operator of \
                 all projects",
            ),
        ] {
            let denied = allowed(&actor(role, scope), action, resource).unwrap_err();
            assert_eq!(denied.to_string(), expected);
        }
    }
}
