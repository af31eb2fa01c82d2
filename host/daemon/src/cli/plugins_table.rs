//! The plugins of a daemon for people: a table that fits a terminal of 80 columns, and below it, plugin by
//! plugin, what went wrong: words of any length, which a column would push out of sight.

use std::fmt::Write as _;

use super::status::{clean, or_dash, table};
use crate::control::types::{PluginStatus, ReplicaStatus, Role};

/// What a table of plugins shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// How they do in the group, and why they last faulted.
    Group,
    /// Which code they run, and where in it they last faulted.
    Code,
}

/// The plugins for people.
pub(super) fn plugins_table(plugins: &[PluginStatus], columns: Columns) -> String {
    let rows = plugins.iter();
    let mut text = match columns {
        Columns::Group => table(
            &[
                "PLUGIN", "VERSION", "STATE", "ROLE", "LEADER", "TERM", "MEMBERS", "KEYS", "BYTES",
            ],
            rows.map(group_row).collect(),
        ),
        Columns::Code => table(
            &[
                "PLUGIN",
                "VERSION",
                "GENERATION",
                "CONTENT",
                "STATE",
                "ROLE",
            ],
            rows.map(code_row).collect(),
        ),
    };
    for plugin in plugins {
        write_trouble(&mut text, plugin, columns);
    }
    text
}

/// What went wrong with a plugin: a line each, and its backtrace where its code is looked at.
fn write_trouble(text: &mut String, plugin: &PluginStatus, columns: Columns) {
    let id = &plugin.id;
    for (count, what) in [
        (
            plugin.dropped_messages,
            "messages dropped: it was too slow, or not running",
        ),
        (plugin.refused_messages, "messages refused"),
        (plugin.refused_writes, "writes of state refused"),
        (
            plugin.refused_publishes,
            "messages for local programs refused",
        ),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {id}: {count} {what}");
        }
    }
    for refused in &plugin.refused_capabilities {
        let _ = writeln!(text, "  {id} does not get {}", clean(refused));
    }
    if let Some(fault) = &plugin.last_fault {
        let lines: Vec<String> = fault.lines().map(clean).collect();
        let _ = writeln!(text, "  {id}: last fault: {}", lines.join("; "));
        let frames = match columns {
            Columns::Group => &[][..],
            Columns::Code => &plugin.last_backtrace,
        };
        for frame in frames {
            let _ = writeln!(text, "    at {}", clean(frame));
        }
    }
}

fn code_row(plugin: &PluginStatus) -> Vec<String> {
    vec![
        plugin.id.clone(),
        or_dash(plugin.version.clone()),
        or_dash(plugin.generation.map(|count| count.to_string())),
        or_dash(plugin.content_hash.clone()),
        or_dash(plugin.state.clone()),
        role(plugin.role).to_owned(),
    ]
}

fn group_row(plugin: &PluginStatus) -> Vec<String> {
    let leader = plugin.leader.as_ref().map(|leader| {
        leader
            .name
            .clone()
            .unwrap_or_else(|| leader.id.chars().take(8).collect())
    });
    vec![
        plugin.id.clone(),
        or_dash(plugin.version.clone()),
        or_dash(plugin.state.clone()),
        role(plugin.role).to_owned(),
        or_dash(leader),
        or_dash(plugin.term.map(|t| t.to_string())),
        or_dash(plugin.members.map(|m| m.to_string())),
        or_dash(plugin.replica.as_ref().map(|r| r.keys.to_string())),
        or_dash(plugin.replica.as_ref().map(bytes)),
    ]
}

/// How much state a plugin has here, and what is to be said of it.
fn bytes(replica: &ReplicaStatus) -> String {
    let mut text = replica.bytes.to_string();
    if replica.catching_up {
        text.push_str(", catching up");
    }
    if replica.refused > 0 {
        let _ = write!(text, ", {} refused", replica.refused);
    }
    if replica.lost > 0 {
        let _ = write!(text, ", {} lost", replica.lost);
    }
    if replica.not_kept.is_some() {
        text.push_str(", not kept");
    }
    text
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::None => "-",
        Role::Electing => "electing",
        Role::Follower => "follower",
        Role::Leader => "leader",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::status;

    fn plugins() -> Vec<PluginStatus> {
        let mut plugins = status().plugins;
        plugins.truncate(1);
        plugins[0].id = "playlist".to_owned();
        plugins
    }

    #[test]
    fn what_plugins_lose_and_are_refused_is_counted_by_kind() {
        let mut plugins = plugins();
        assert_eq!(plugins_table(&plugins, Columns::Group).lines().count(), 2);
        plugins[0].dropped_messages = 2;
        plugins[0].refused_messages = 3;
        plugins[0].refused_writes = 4;
        plugins[0].refused_publishes = 5;
        for columns in [Columns::Group, Columns::Code] {
            let text = plugins_table(&plugins, columns);
            let below: Vec<&str> = text.lines().skip(2).collect();
            let expected = [
                "  playlist: 2 messages dropped: it was too slow, or not running",
                "  playlist: 3 messages refused",
                "  playlist: 4 writes of state refused",
                "  playlist: 5 messages for local programs refused",
            ];
            assert_eq!(below, expected);
        }
    }

    #[test]
    fn a_fault_is_named_below_and_where_it_was_with_the_code() {
        let mut plugins = plugins();
        plugins[0].last_fault = Some("on-timer: it trapped:\n\u{1b}[31munreachable".to_owned());
        plugins[0].last_backtrace = vec!["app::tick".to_owned(), "app::on_timer".to_owned()];
        let group = plugins_table(&plugins, Columns::Group);
        let fault = "  playlist: last fault: on-timer: it trapped:; [31munreachable\n";
        assert!(group.ends_with(fault), "{group}");
        let code = plugins_table(&plugins, Columns::Code);
        let whole = format!("{fault}    at app::tick\n    at app::on_timer\n");
        assert!(code.ends_with(&whole), "{code}");
    }

    #[test]
    fn the_tables_fit_into_80_columns() {
        let mut plugins = plugins();
        plugins[0].generation = Some(12);
        plugins[0].content_hash = Some("0123456789ab".to_owned());
        plugins[0].replica = None;
        for (columns, state) in [(Columns::Code, "quarantined"), (Columns::Group, "running")] {
            plugins[0].state = Some(state.to_owned());
            let text = plugins_table(&plugins, columns);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= 80), "{text}");
        }
    }
}
