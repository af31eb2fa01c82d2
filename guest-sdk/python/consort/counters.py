"""Counters that anyone adds to, also while cut off; no increment is lost or counted twice."""

from componentize_py_types import Err
from wit_world.imports import counters as _host

from .errors import WriteError, refused


def get(name: str) -> int:
    """The sum as this device sees it; 0 for a counter that nobody added to."""
    return _host.get(name)


def add(name: str, delta: int = 1) -> int:
    """Adds and returns the sum as this device sees it. Raises `WriteError`."""
    try:
        return _host.add(name, delta)
    except Err as error:
        raise refused(WriteError, error) from None
