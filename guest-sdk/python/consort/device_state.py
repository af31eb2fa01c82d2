"""State that each device writes for itself and everyone reads.

Writes raise `WriteError`. A `ttl` counts in milliseconds, after which the entry expires everywhere.
"""

from typing import Optional

from componentize_py_types import Err
from wit_world.imports import device_state as _host

from .errors import WriteError, refused


def get(device: str, key: str) -> Optional[bytes]:
    """The value that the device with this id wrote under `key`."""
    return _host.get(device, key)


def collect(key: str) -> dict[str, bytes]:
    """The value under `key` of every device that has one, by device id."""
    return dict(_host.collect(key))


def keys(device: str, prefix: str = "") -> list[str]:
    """The device's keys that begin with `prefix`, in order."""
    return _host.keys(device, prefix)


def put(key: str, value: bytes, ttl: Optional[int] = None) -> None:
    """Writes for this device."""
    try:
        _host.put(key, value, ttl)
    except Err as error:
        raise refused(WriteError, error) from None


def delete(key: str) -> None:
    """Deletes for this device."""
    try:
        _host.delete(key)
    except Err as error:
        raise refused(WriteError, error) from None
