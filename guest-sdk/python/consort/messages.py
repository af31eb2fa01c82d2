"""Short messages. Each arrives at most once, in no particular order; a lost one is not resent.

Every function raises `SendError`. Payloads are bytes: `payload.encode` makes them of values.
"""

from componentize_py_types import Err
from wit_world.imports import messages as _host

from .errors import SendError, refused


def broadcast(payload: bytes) -> None:
    """Leader to every member, this device included."""
    try:
        _host.broadcast(payload)
    except Err as error:
        raise refused(SendError, error) from None


def send_to_leader(payload: bytes) -> None:
    """Any member to the leader; on the leader itself a local delivery."""
    try:
        _host.send_to_leader(payload)
    except Err as error:
        raise refused(SendError, error) from None


def send(to: str, payload: bytes) -> None:
    """Any member to the member with the device id `to`."""
    try:
        _host.send(to, payload)
    except Err as error:
        raise refused(SendError, error) from None


def send_to_all(payload: bytes) -> None:
    """Any member to every member, this device included."""
    try:
        _host.send_to_all(payload)
    except Err as error:
        raise refused(SendError, error) from None
