//! `resources`.

use super::super::reader::Reader;
use super::super::tree::Node;
use super::super::{Bytes, Cpus, Resources};
use super::leaf::{bytes, optional_text, within};

const CPU_MIN: Cpus = Cpus::from_millis(1);
const CPU_MAX: Cpus = Cpus::from_millis(10_000_000);
const RESERVED_MIN: Bytes = Bytes(1);
/// Docker refuses less.
const MEMORY_MAX_MIN: Bytes = Bytes(6 << 20);
const BYTES_MAX: Bytes = Bytes(1 << 50);

pub(super) fn read(reader: &mut Reader, node: &Node, path: &str) -> Option<Resources> {
    let mut fields = reader.map(node, path)?;
    let fields = &mut fields;
    let resources = Resources {
        cpu: optional_text(reader, fields, "cpu", |text| {
            within(Cpus::parse(&text)?, &(CPU_MIN..=CPU_MAX))
        }),
        memory: bytes(reader, fields, "memory", RESERVED_MIN..=BYTES_MAX),
        disk: bytes(reader, fields, "disk", RESERVED_MIN..=BYTES_MAX),
        memory_max: bytes(reader, fields, "memory_max", MEMORY_MAX_MIN..=BYTES_MAX),
    };
    reader.finish(fields);
    Some(resources)
}
