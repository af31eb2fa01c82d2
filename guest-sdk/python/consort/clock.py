"""The group's shared clock, and wake-ups on it. Times are microseconds since the Unix epoch."""

from wit_world.imports import clock as _host
from wit_world.imports.clock import Synchronisation


def now() -> int:
    """Group time. It never runs backwards within one run of a plugin."""
    return _host.now()


def quality() -> Synchronisation:
    """Whether this device is in step, and a bound on its error in microseconds."""
    return _host.quality()


def wake_at(at: int, token: int) -> None:
    """Calls `Plugin.timer` at `at`, or at once if that has passed.

    A token has one timer: setting it again replaces it.
    """
    _host.wake_at(at, token)


def wake_every(period: int, token: int) -> None:
    """Calls `Plugin.timer` at multiples of `period`, at the same instants on every device."""
    _host.wake_every(period, token)


def cancel(token: int) -> None:
    """Removes the timer of `token`, if there is one."""
    _host.cancel(token)
