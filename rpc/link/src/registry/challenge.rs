//! What a registry says about how to sign in.

/// `WWW-Authenticate`, as far as registries use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The best of several: a token is better than the password itself.
    pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut found: Vec<Self> = headers.filter_map(Self::parse).collect();
        let bearer = found.iter().position(|one| matches!(one, Self::Bearer { .. }));
        (!found.is_empty()).then(|| found.swap_remove(bearer.unwrap_or(0)))
    }

    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let realm = parameter(rest, "realm")?;
        Some(Self::Bearer { realm, service: parameter(rest, "service") })
    }
}

/// The value of `name="value"`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_start_matches([',', ' ']).trim();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = after;
    }
}

/// Whether a realm's host is the registry's own, or a name in the same domain: the registry's name
/// without its first label, which must leave two. `registry.example.org` may have its logins at
/// `example.org` and `auth.example.org`.
pub(super) fn is_of_domain(realm: &str, registry: &str) -> bool {
    let registry = registry.rsplit_once(':').map_or(registry, |(name, _)| name);
    let (realm, registry) = (realm.to_ascii_lowercase(), registry.to_ascii_lowercase());
    if realm == registry {
        return true;
    }
    let is_address = registry.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let parent = match registry.as_str() {
        // It is its own domain.
        "docker.io" => Some("docker.io"),
        name => name.split_once('.').map(|(_, parent)| parent),
    };
    !is_address
        && parent.filter(|parent| parent.contains('.')).is_some_and(|parent| {
            let label = realm.strip_suffix(parent);
            label.is_some_and(|label| label.is_empty() || label.ends_with('.'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
        };
        for (headers, expected) in [
            (vec!["Basic realm=\"Registry\""], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
                Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"))),
            ),
            (
                vec![r#"Bearer service="a=b,c", realm="https://r/t""#],
                Some(bearer("https://r/t", Some("a=b,c"))),
            ),
            (vec!["Basic", "Bearer realm=https://r/t"], Some(bearer("https://r/t", None))),
            (vec!["Bearer service=\"x\""], None),
            (vec!["Negotiate"], None),
            (vec![], None),
        ] {
            assert_eq!(Challenge::choose(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_password_goes_to_the_registrys_own_domain_alone() {
        for (realm, registry, own) in [
            ("r.example.org", "r.example.org:5000", true),
            ("auth.docker.io", "docker.io", true),
            ("gitlab.com", "registry.gitlab.com", true),
            ("auth.example.org", "registry.example.org", true),
            ("evil.org", "registry.example.org", false),
            ("evilexample.org", "registry.example.org", false),
            ("other.org", "example.org", false),
            ("127.0.0.2", "127.0.0.1:5000", false),
            ("9.0.0.1", "10.0.0.1", false),
            ("127.0.0.1", "127.0.0.1:5000", true),
            ("evil.io", "docker.io", false),
            ("", "example.org", false),
        ] {
            assert_eq!(is_of_domain(realm, registry), own, "{realm} for {registry}");
        }
    }
}
