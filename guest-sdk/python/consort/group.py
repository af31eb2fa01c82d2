"""Who is in the group, as this device sees it."""

from typing import Optional

from wit_world.imports import group as _host
from wit_world.imports.types import Leadership, Peer


def this_device() -> Peer:
    return _host.this_device()


def peers() -> list[Peer]:
    """Every member that runs this plugin, this device included, ordered by device id."""
    return _host.peers()


def leader() -> Optional[Leadership]:
    """The leader as this device knows it; none while an election is under way."""
    return _host.leader()


def is_leader() -> bool:
    return _host.is_leader()
