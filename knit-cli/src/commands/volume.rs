//! `knit volume`: where the data is.

use std::process::ExitCode;

use knit_rpc::api::{VolumeState, VolumeView};
use knit_runtime::terminal::table::{Cell, Table};
use knit_runtime::terminal::{self, Colour, eprintln};

use super::show::ago;
use crate::cli::{OfProjectArgs, VolumeCommand};
use crate::server;

pub(super) async fn run(command: VolumeCommand) -> anyhow::Result<ExitCode> {
    match command {
        VolumeCommand::Ls(args) => list(args).await?,
        VolumeCommand::Inspect(args) => {
            let client = server::find(&args.show.server).await?;
            let volumes = client.volume(&args.name.project, &args.name.name).await?;
            // Whoever asks for one wants to see all of it.
            terminal::print_rows(args.show.output, &volumes, name, |rows, _| table(rows, true))?;
        }
        VolumeCommand::Rm(args) => {
            let client = server::find(&args.server).await?;
            client.remove_volume(&args.name.project, &args.name.name).await?;
            eprintln(&format!("{} is being removed, with its data", args.name.name));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(args: OfProjectArgs) -> anyhow::Result<()> {
    let client = server::find(&args.show.server).await?;
    let volumes = client.volumes(args.project.as_ref()).await?;
    terminal::print_rows(args.show.output, &volumes, name, table)?;
    Ok(())
}

fn name(view: &VolumeView) -> String {
    match view.volume.slot {
        Some(slot) => format!("{}.{slot}", view.volume.name),
        None => view.volume.name.clone(),
    }
}

fn table(volumes: &[VolumeView], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .wide_column("project")
        .column("volume")
        .column("state")
        .column("node")
        .column("used by")
        .column("made")
        .wide_column("docker name");
    let now = knit_runtime::clock::now();
    for volume in volumes {
        let (colour, state) = match volume.state {
            VolumeState::Present => (Colour::Green, "present"),
            VolumeState::Awaited => (Colour::Yellow, "awaited"),
            VolumeState::Lost => (Colour::Red, "lost"),
            VolumeState::Removing => (Colour::Yellow, "removing"),
        };
        table.row([
            Cell::from(volume.volume.project.as_str()),
            name(volume).into(),
            Cell::coloured(colour, state),
            volume.node_name.as_str().into(),
            volume.used_by.join(", ").into(),
            ago(now, volume.created_at).into(),
            volume.docker_name.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use knit_rpc::spec::VolumeName;

    use super::*;
    use crate::commands::testing;

    #[test]
    fn a_volume_shows_where_its_data_is_and_who_uses_it() {
        let volume = VolumeName::parse("default/data.0").unwrap();
        let view = VolumeView {
            docker_name: volume.docker_name(),
            volume,
            state: VolumeState::Lost,
            node_name: "fra-1".to_owned(),
            node: testing::node("fra-1").id.unwrap(),
            used_by: vec!["db.0".to_owned()],
            created_at: testing::NOW,
        };
        let shown = table(&[view], false).to_string();
        assert!(
            shown.lines().nth(1).unwrap().starts_with("data.0  lost   fra-1  db.0     "),
            "{shown}"
        );
    }
}
