//! Who may use the API: roles, tokens, and what both look like to people and programs.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::Timestamp;
use crate::id::{ProjectName, TokenId};

/// Random bytes in a token.
pub const TOKEN_BYTES: usize = 32;
/// A token may not be made to live longer than this many seconds: ten years.
pub const TOKEN_TTL_MAX_SECS: u64 = 10 * 365 * 24 * 3600;
const TOKEN_START: &str = "knit_";

/// What somebody may do. Each role may do all that the one before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Deploys, scales, stops and removes; makes networks and removes volumes.
    Deployer,
    /// Takes nodes in and out of use.
    Operator,
    /// Decides who may do what.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Deployer, Self::Operator, Self::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the roles are viewer, deployer, operator and admin")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoRole)
    }
}

/// Where a role holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In every project, and for what belongs to none: nodes, tokens.
    All,
    /// In these projects only.
    Projects(BTreeSet<ProjectName>),
}

impl Scope {
    /// These projects only, or all when none are named.
    pub fn of(projects: Option<BTreeSet<ProjectName>>) -> Self {
        projects.map_or(Self::All, Self::Projects)
    }

    /// Completes "viewer of …".
    pub fn words(&self) -> String {
        match self {
            Self::All => "all projects".to_owned(),
            Self::Projects(projects) if projects.len() == 1 => format!("project {self}"),
            Self::Projects(_) => format!("projects {self}"),
        }
    }

    pub fn has(&self, project: &ProjectName) -> bool {
        match self {
            Self::All => true,
            Self::Projects(projects) => projects.contains(project),
        }
    }

    /// Whether nothing of `other` lies outside.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Projects(_), Self::All) => false,
            (Self::Projects(own), Self::Projects(theirs)) => theirs.is_subset(own),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Projects(projects) => {
                let names: Vec<&str> = projects.iter().map(ProjectName::as_str).collect();
                f.pad(&names.join(", "))
            }
        }
    }
}

/// A token as its holder has it: `knit_`, the token's id, `_`, 64 hex digits.
///
/// Only its digest is stored, and it is never printed by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    text: String,
}

/// Why a text is no token. What was typed is not repeated: it may be half a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("that is no token: one begins with knit_ and has 78 characters")]
pub struct NoToken;

impl Token {
    /// Writes random bytes as a token.
    pub fn new(id: TokenId, random: [u8; TOKEN_BYTES]) -> Self {
        let text = format!("{TOKEN_START}{id}_{}", hex::encode(random));
        Self { id, text }
    }

    /// Reads a token; white space around it does not matter.
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        let text = text.trim();
        let (id, secret) =
            text.strip_prefix(TOKEN_START).and_then(|rest| rest.split_once('_')).ok_or(NoToken)?;
        let id = TokenId::parse(id).map_err(|_| NoToken)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if secret.len() != 2 * TOKEN_BYTES || !secret.bytes().all(is_hex) {
            return Err(NoToken);
        }
        Ok(Self { id, text: text.to_owned() })
    }

    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The whole token: handle it as the secret it is.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What is stored of it: SHA-256 of the whole text. 256 random bits need no slow hash.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

/// A token as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// The part of the token that is no secret.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// What it is for, in somebody's words.
    pub name: String,
    pub role: Role,
    /// The only projects in which it holds; absent: all, and what belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Who made it.
    pub created_by: String,
    #[schema(value_type = u64)]
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub expires_at: Option<Timestamp>,
    /// To the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub last_used_at: Option<Timestamp>,
}

/// `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// 1 to 63 printable characters.
    pub name: String,
    pub role: Role,
    /// The only projects in which it holds; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// Seconds until it is worth nothing, at most ten years; absent: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
}

impl NewToken {
    pub fn scope(&self) -> Scope {
        Scope::of(self.projects.clone())
    }
}

/// A new token: the only answer that ever holds its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MintedToken {
    pub token: String,
    #[serde(flatten)]
    pub view: TokenView,
}

/// `GET /whoami`: as whom a request counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// `token NAME (ID)`, or `root on the server's host`.
    pub name: String,
    pub role: Role,
    /// The only projects in which the role holds; absent: all, and what belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub projects: Option<BTreeSet<ProjectName>>,
    /// The cluster's public signing key (an nkey, `N…`), to compare with what others see.
    pub server_key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::new(TokenId::from_bytes([0xab; 4]), [7; TOKEN_BYTES])
    }

    #[test]
    fn a_token_reads_as_it_was_written_and_shows_no_secret() {
        let token = token();
        assert_eq!(token.expose().len(), 78);
        let read = Token::parse(&format!(" {}\n", token.expose())).unwrap();
        assert_eq!(read, token);
        assert_eq!(read.digest(), token.digest());
        assert_eq!(format!("{read:?}"), "Token(abababab)");
        let other = Token::new(token.id().clone(), [8; TOKEN_BYTES]);
        assert_ne!(other.digest(), token.digest());
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let good = token().expose().to_owned();
        for bad in [
            "",
            "knit_",
            "secret",
            &good[1..],
            &good[..77],
            &format!("{good}0"),
            &good.replace("07", "0G"),
            &good.replace("abababab", "ABABABAB"),
            &good.replacen('_', "-", 2),
        ] {
            let error = Token::parse(bad).unwrap_err().to_string();
            assert!(bad.len() < 20 || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn roles_are_words_and_have_an_order() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        }
        assert_eq!("root".parse::<Role>(), Err(NoRole));
        assert!(Role::ALL.is_sorted());
    }

    #[test]
    fn a_scope_covers_what_lies_within() {
        let of = |names: &[&str]| {
            Scope::Projects(names.iter().map(|name| name.parse().unwrap()).collect())
        };
        for (own, theirs, covers) in [
            (Scope::All, Scope::All, true),
            (Scope::All, of(&["a"]), true),
            (of(&["a"]), Scope::All, false),
            (of(&["a", "b"]), of(&["a"]), true),
            (of(&["a"]), of(&["a", "b"]), false),
        ] {
            assert_eq!(own.covers(&theirs), covers, "{own:?} {theirs:?}");
        }
    }
}
