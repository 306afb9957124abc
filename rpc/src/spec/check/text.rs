//! What single texts may hold.

use std::path::{Path, PathBuf};

use super::super::privilege::is_plain;
use crate::id::ProjectName;

/// An absolute, plain path of a file.
pub(in crate::spec) fn destination(text: String) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("must be an absolute path, for example \"/{text}\", not \"{text}\""));
    }
    if text.ends_with('/') {
        return Err(format!("must name a file, not the directory \"{text}\""));
    }
    if text.contains(['\0', '\n', ':']) {
        return Err("may hold no line feed, colon or NUL".to_owned());
    }
    if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "must be a plain path without \"//\", \".\" or \"..\", not \"{text}\""
        ));
    }
    Ok(text)
}

/// The name of an environment variable.
pub(in crate::spec) fn variable(text: String) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0', '\n']) {
        return Err(format!("{text:?} is no name of a variable"));
    }
    Ok(text)
}

/// A name as Docker gives networks.
pub(in crate::spec) fn network_name(text: &str) -> Result<(), String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let holds_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if starts_well && holds_well && text.len() <= 128 {
        Ok(())
    } else {
        Err(format!("{text:?} is no network name: letters, digits, \"_\", \".\" and \"-\" only"))
    }
}

/// A size in Docker's notation: digits, then k, m or g.
pub(in crate::spec) fn log_size(text: String) -> Result<String, String> {
    let digits = text.strip_suffix(['k', 'm', 'g']).unwrap_or(&text);
    match digits.parse::<u64>() {
        Ok(size) if size > 0 => Ok(text),
        _ => Err(format!("must be a size such as 10m (k, m or g), not \"{text}\"")),
    }
}

/// An absolute, plain path of a directory; a slash may end it.
pub(in crate::spec) fn directory(text: String) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("must be an absolute path, for example \"/{text}\", not \"{text}\""));
    }
    let plain = text.strip_suffix('/').unwrap_or(&text);
    let parts = plain.split('/').skip(1);
    if text.contains(['\0', '\n', ':']) {
        return Err("may hold no line feed, colon or NUL".to_owned());
    }
    if parts.clone().any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "must be a plain path without \"//\", \".\" or \"..\", not \"{text}\""
        ));
    }
    Ok(text)
}

/// Where a volume or a tmpfs is mounted: a directory, but not the container's whole file system.
pub(in crate::spec) fn mount_path(text: String) -> Result<String, String> {
    if text == "/" {
        return Err("cannot be /, which is the image's own".to_owned());
    }
    let text = directory(text)?;
    Ok(text.strip_suffix('/').map(str::to_owned).unwrap_or(text))
}

/// A path of the node's.
pub(in crate::spec) fn host_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !is_plain(path) || text.contains('\0') {
        return Err(format!("must be an absolute path without \"..\", not {text:?}"));
    }
    // Without what stands twice and at the end: the same path is the same text.
    Ok(path.components().collect())
}

/// `PATH` or `PATH:OPTIONS`, as Docker takes it.
pub(in crate::spec) fn tmpfs(text: &str) -> Result<String, String> {
    let (path, options) = match text.split_once(':') {
        Some((path, options)) => (path, Some(options)),
        None => (text, None),
    };
    let path = mount_path(path.to_owned())?;
    match options {
        None => Ok(path),
        Some(options) => {
            let fits = !options.is_empty()
                && options.split(',').all(|option| {
                    !option.is_empty()
                        && option.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_%".contains(&b))
                });
            if fits {
                Ok(format!("{path}:{options}"))
            } else {
                Err(format!(
                    "options must read as in \"{path}:size=64m,mode=755\", not \"{options}\""
                ))
            }
        }
    }
}

/// A volume's name within its project.
pub(in crate::spec) fn volume_name(text: String) -> Result<String, String> {
    if ProjectName::parse(text.as_str()).is_ok() {
        Ok(text)
    } else {
        Err(format!(
            "must be lower-case letters, digits and inner dashes, at most 63 characters, \
             not \"{text}\""
        ))
    }
}

/// `USER[:GROUP]`, each by name or number.
pub(in crate::spec) fn user(text: String) -> Result<String, String> {
    let fits = |part: &str| {
        !part.is_empty()
            && part.len() <= 32
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-$".contains(&b))
    };
    let (user, group) = text.split_once(':').unwrap_or((&text, "0"));
    if fits(user) && fits(group) {
        Ok(text)
    } else {
        Err(format!("must be USER or USER:GROUP, by name or number, not \"{text}\""))
    }
}

/// A host's name, with or without a domain.
pub(in crate::spec) fn hostname(text: String) -> Result<String, String> {
    let fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if text.len() <= 253 && text.split('.').all(fits) {
        Ok(text)
    } else {
        Err(format!("must be a host's name: letters, digits, inner dashes, not \"{text}\""))
    }
}

/// A kernel parameter that a container has for itself.
pub(in crate::spec) fn sysctl(name: &str) -> Result<(), String> {
    const OWN: [&str; 5] = ["net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    if plain && OWN.iter().any(|own| name.starts_with(own)) {
        Ok(())
    } else {
        Err("is no parameter that a container has for itself: net.*, kernel.shm*, kernel.msg*, \
             kernel.sem and fs.mqueue.* are"
            .to_owned())
    }
}

/// What a probe asks for: the path of a URL, with or without a query.
pub(in crate::spec) fn url_path(text: String) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("must begin with a slash: \"/{text}\", not \"{text}\""));
    }
    if text.len() > 1024 || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err("must be at most 1024 characters of a URL, without spaces and \"#\"".to_owned());
    }
    Ok(text)
}

/// The name of a log driver or of a plugin that is one.
pub(in crate::spec) fn log_driver(text: String) -> Result<String, String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/:".contains(&b));
    if fits { Ok(text) } else { Err(format!("{text:?} is no log driver, such as json-file")) }
}
