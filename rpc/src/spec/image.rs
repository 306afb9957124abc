//! Image references, in the grammar of Docker's reference package.

use std::fmt;

/// An image's name, with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// Host and port, when the name holds one.
    pub registry: Option<String>,
    /// For example `library/nginx` or `nginx`.
    pub repository: String,
    pub tag: Option<String>,
    /// For example `sha256:…`.
    pub digest: Option<String>,
}

impl ImageRef {
    /// Reads a name such as `registry.example:5000/team/app:1.2@sha256:…`, or says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest {
            check_digest(digest)?;
        }
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (Some(first), rest)
            }
            _ => (None, name),
        };
        if let Some(registry) = registry {
            Self::check_registry(registry)?;
        }
        check_repository(repository)?;
        Ok(Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// A registry's host, with a port if it has one.
    pub fn check_registry(text: &str) -> Result<(), String> {
        let (host, port) = text.split_once(':').unwrap_or((text, "443"));
        let host_fits = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b));
        if host_fits && port.parse::<u16>().is_ok_and(|port| port > 0) {
            Ok(())
        } else {
            Err(format!("\"{text}\" is no registry: write HOST or HOST:PORT"))
        }
    }

    /// The same image from `registry`, when the name holds none.
    #[must_use]
    pub fn with_registry(mut self, registry: Option<&str>) -> Self {
        if self.registry.is_none() {
            self.registry = registry.map(str::to_owned);
        }
        self
    }
}

/// As Docker is asked for it: without tag and digest it means `latest`.
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        match (&self.tag, &self.digest) {
            (None, None) => f.write_str(":latest"),
            (tag, digest) => {
                if let Some(tag) = tag {
                    write!(f, ":{tag}")?;
                }
                digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
            }
        }
    }
}

fn check_repository(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the image has no name".to_owned());
    }
    if text.len() > 255 {
        return Err("the image's name is longer than 255 characters".to_owned());
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower = text.to_ascii_lowercase();
        return Err(format!("image names are lower-case: \"{lower}\", not \"{text}\""));
    }
    let fits = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if text.split('/').all(fits) { Ok(()) } else { Err(format!("{text:?} is no image name")) }
}

fn check_tag(text: &str) -> Result<(), String> {
    let fits = !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if fits { Ok(()) } else { Err(format!("{text:?} is no image tag")) }
}

fn check_digest(text: &str) -> Result<(), String> {
    let fits = text.split_once(':').is_some_and(|(algorithm, digits)| {
        !algorithm.is_empty() && digits.len() >= 32 && digits.bytes().all(|b| b.is_ascii_hexdigit())
    });
    if fits { Ok(()) } else { Err(format!("{text:?} is no digest such as sha256:…")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, registry, repository, shown) in [
            ("nginx", None, "nginx", "nginx:latest"),
            ("nginx:alpine", None, "nginx", "nginx:alpine"),
            ("team/app", None, "team/app", "team/app:latest"),
            ("localhost/app:1", Some("localhost"), "app", "localhost/app:1"),
            ("r.example/a/b:1", Some("r.example"), "a/b", "r.example/a/b:1"),
            ("host:5000/app", Some("host:5000"), "app", "host:5000/app:latest"),
        ] {
            let image = ImageRef::parse(text).expect(text);
            assert_eq!(image.registry.as_deref(), registry, "{text}");
            assert_eq!(image.repository, repository, "{text}");
            assert_eq!(image.to_string(), shown);
        }
        let digest = format!("app@sha256:{}", "a".repeat(64));
        assert_eq!(ImageRef::parse(&digest).unwrap().to_string(), digest);
    }

    #[test]
    fn what_is_no_image_says_why() {
        for (text, why) in [
            ("", "no name"),
            ("Nginx", "lower-case"),
            ("a b", "no image name"),
            ("a:", "tag"),
            ("a@sha256:short", "digest"),
            ("a//b", "no image name"),
            ("-a", "no image name"),
        ] {
            let problem = ImageRef::parse(text).expect_err(text);
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn a_registry_is_put_before_names_that_have_none() {
        let image = ImageRef::parse("app:1").unwrap().with_registry(Some("r.example:5000"));
        assert_eq!(image.to_string(), "r.example:5000/app:1");
        let image = ImageRef::parse("q.example/app").unwrap().with_registry(Some("r.example"));
        assert_eq!(image.to_string(), "q.example/app:latest");
    }
}
