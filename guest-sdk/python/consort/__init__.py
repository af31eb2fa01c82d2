"""Write Consort plugins in Python.

A plugin is a subclass of `Plugin`, marked by `@consort.plugin`; each callback has a default that
does nothing. The host calls one callback at a time. An exception in `setup` or `restore` rejects
the plugin with its text; one in any other callback goes to the log with its traceback and ends
this instance, which the host replaces by another.

Module-level code runs when the plugin is built, not on the device: whatever asks the host belongs
into callbacks.
"""

import sys
import traceback
from enum import Enum
from typing import Any, Callable, Type, TypeVar

from componentize_py_types import Err
from wit_world.imports.types import Leadership, Peer

from . import clock, config, counters, device_state, group, leader_state, local, log, messages
from . import payload, shared_state
from .errors import Error, SendError, WriteError
from .state import Change, Origin, Outcome, change_from_host

__all__ = [
    "Change",
    "Error",
    "Leadership",
    "Origin",
    "Outcome",
    "Peer",
    "Plugin",
    "Reason",
    "SendError",
    "WriteError",
    "clock",
    "config",
    "counters",
    "device_state",
    "group",
    "leader_state",
    "local",
    "log",
    "messages",
    "payload",
    "plugin",
    "shared_state",
]


class Reason(Enum):
    """Why a plugin is unloaded."""

    STOP = 0
    """The host stops."""
    RELOAD = 1
    """A new version takes over."""
    REMOVE = 2
    """The plugin's file is gone, or the operator switched it off."""


class Plugin:
    """The callbacks, each with a default that does nothing."""

    def setup(self) -> None:
        """Once, before any other callback. An exception rejects the plugin, or the reload."""

    def shutdown(self, reason: Reason) -> None:
        """Before an orderly unload. A fault or a power cut skips it."""

    def promote_leader(self, leadership: Leadership) -> None:
        """This device leads from here on."""

    def demote_leader(self) -> None:
        """This device leads no longer. Timers stay set."""

    def promote_follower(self, leadership: Leadership) -> None:
        """Another device leads from here on."""

    def demote_follower(self) -> None:
        """The device that led is lost or was replaced."""

    def peer_added(self, peer: Peer) -> None:
        """A device joined the group; this device is the first."""

    def peer_removed(self, peer: Peer) -> None:
        """A device left the group."""

    def leader_message(self, payload: bytes, sender: Leadership) -> None:
        """From the leader's `messages.broadcast`, on every member including the leader."""

    def peer_message(self, payload: bytes, sender: Peer) -> None:
        """From any member, by `messages.send_to_leader`, `send` or `send_to_all`."""

    def state_changed(self, changes: list[Change]) -> None:
        """What changed since the last call, without this device's own writes; each key once."""

    def writes_superseded(self, keys: list[str]) -> None:
        """Leader-state keys that this device wrote as leader and the group did not adopt."""

    def timer(self, token: int, due: int) -> None:
        """A timer is due. `due` is when it was to fire, in group time."""

    def local_request(self, topic: str, payload: bytes) -> bytes:
        """A request of a program on this device; what is returned is its answer.

        An exception's text is the refusal.
        """
        raise Error("this plugin answers no requests")

    def save(self) -> bytes:
        """What the next version of this plugin is to know, when it replaces this one."""
        return b""

    def restore(self, saved: bytes, from_version: str) -> None:
        """What the version `from_version` saved, after `setup`. An exception ends the reload."""


P = TypeVar("P", bound=Plugin)
T = TypeVar("T")


def plugin(plugin_class: Type[P]) -> Type[P]:
    """Makes a class the plugin of the module that it stands in. Once per project."""
    module = sys.modules[plugin_class.__module__]
    for export in _exports(plugin_class()):
        setattr(module, export.__name__, export)
    return plugin_class


def _text(error: BaseException) -> str:
    """An error's own words; for those that are no `Error`, with their type."""
    if isinstance(error, Error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _refusable(call: Callable[..., T], *arguments: object) -> T:
    """Calls what may refuse: its exception becomes the result that the host sees."""
    try:
        return call(*arguments)
    except Exception as error:
        if not isinstance(error, Error):
            log.error(traceback.format_exc())
        raise Err(_text(error)) from error


def _called(call: Callable[..., T], *arguments: object) -> T:
    """Calls what must not fail: the traceback goes to the log before the instance ends."""
    try:
        return call(*arguments)
    except BaseException:
        log.error(traceback.format_exc())
        raise


def _exports(target: Plugin) -> list[type]:
    """The classes by which the host calls `target`, named as the contract's interfaces."""

    class Lifecycle:
        def setup(self) -> None:
            _refusable(target.setup)

        def shutdown(self, reason: Any) -> None:
            _called(target.shutdown, Reason(reason.value))

    class Role:
        def promote_leader(self, leadership: Leadership) -> None:
            _called(target.promote_leader, leadership)

        def demote_leader(self) -> None:
            _called(target.demote_leader)

        def promote_follower(self, leadership: Leadership) -> None:
            _called(target.promote_follower, leadership)

        def demote_follower(self) -> None:
            _called(target.demote_follower)

    class PeerEvents:
        def on_peer_added(self, peer: Peer) -> None:
            _called(target.peer_added, peer)

        def on_peer_removed(self, peer: Peer) -> None:
            _called(target.peer_removed, peer)

    class MessageEvents:
        def on_leader_message(self, payload: bytes, sender: Leadership) -> None:
            _called(target.leader_message, payload, sender)

        def on_peer_message(self, payload: bytes, sender: Peer) -> None:
            _called(target.peer_message, payload, sender)

    class StateEvents:
        def on_state_changed(self, changes: list[Any]) -> None:
            _called(target.state_changed, [change_from_host(change) for change in changes])

        def on_writes_superseded(self, keys: list[str]) -> None:
            _called(target.writes_superseded, keys)

    class Timers:
        def on_timer(self, token: int, due: int) -> None:
            _called(target.timer, token, due)

    class LocalEvents:
        def on_local_request(self, topic: str, payload: bytes) -> bytes:
            return _refusable(target.local_request, topic, payload)

    class Handover:
        def save(self) -> bytes:
            return _called(target.save)

        def restore(self, saved: bytes, from_version: str) -> None:
            _refusable(target.restore, saved, from_version)

    return [Lifecycle, Role, PeerEvents, MessageEvents, StateEvents, Timers, LocalEvents, Handover]
