//! `volumes` and `host_mounts`.

use super::super::reader::{Fields, Reader};
use super::super::tree::Node;
use super::super::{HostMount, VolumeMount, check};
use super::leaf::{flag, parsed};

pub(super) fn read(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<VolumeMount> {
    let Some((path, node)) = fields.take("volumes") else { return Vec::new() };
    let items = reader.list(node, &path);
    items.into_iter().filter_map(|(path, item)| volume(reader, item, &path)).collect()
}

fn volume(reader: &mut Reader, node: &Node, path: &str) -> Option<VolumeMount> {
    let mut fields = reader.map(node, path)?;
    let name = fields
        .require(reader, "name", "the data's name within the project")
        .and_then(|(path, node)| parsed(reader, node, &path, check::volume_name));
    let target = fields
        .require(reader, "path", "the absolute path of the data in the container")
        .and_then(|(path, node)| parsed(reader, node, &path, check::mount_path));
    let read_only = flag(reader, &mut fields, "read_only");
    let shared = flag(reader, &mut fields, "shared");
    reader.finish(&fields);
    Some(VolumeMount { name: name?, path: target?, read_only, shared })
}

pub(super) fn read_host_mounts(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<HostMount> {
    let Some((path, node)) = fields.take("host_mounts") else { return Vec::new() };
    let items = reader.list(node, &path);
    items.into_iter().filter_map(|(path, item)| host_mount(reader, item, &path)).collect()
}

fn host_mount(reader: &mut Reader, node: &Node, path: &str) -> Option<HostMount> {
    let mut fields = reader.map(node, path)?;
    let host_path = fields
        .require(reader, "host_path", "the absolute path on the node")
        .and_then(|(path, node)| parsed(reader, node, &path, |text| check::host_path(&text)));
    let target = fields
        .require(reader, "path", "the absolute path in the container")
        .and_then(|(path, node)| parsed(reader, node, &path, check::mount_path));
    let read_only = flag(reader, &mut fields, "read_only");
    reader.finish(&fields);
    Some(HostMount { host_path: host_path?, path: target?, read_only })
}
