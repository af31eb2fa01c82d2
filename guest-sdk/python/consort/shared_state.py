"""State that anyone writes; of two writes the later one wins on every device.

Writes raise `WriteError`. A `ttl` counts in milliseconds, after which the entry expires everywhere.
"""

from typing import Optional

from componentize_py_types import Err
from wit_world.imports import shared_state as _host

from .errors import WriteError, refused


def get(key: str) -> Optional[bytes]:
    return _host.get(key)


def keys(prefix: str = "") -> list[str]:
    """The keys that begin with `prefix`, in order."""
    return _host.keys(prefix)


def entries(prefix: str = "") -> dict[str, bytes]:
    """Keys and values whose key begins with `prefix`, in order."""
    return dict(_host.entries(prefix))


def put(key: str, value: bytes, ttl: Optional[int] = None) -> None:
    try:
        _host.put(key, value, ttl)
    except Err as error:
        raise refused(WriteError, error) from None


def delete(key: str) -> None:
    try:
        _host.delete(key)
    except Err as error:
        raise refused(WriteError, error) from None
