"""Short messages. Each arrives at most once, in no particular order; a lost one is not resent.

Every function raises `SendError`. Payloads are bytes: `payload.encode` makes them of values.
"""

from wit_world.imports import messages as _host

from .errors import SendError, raising


def broadcast(payload: bytes) -> None:
    """Leader to every member, this device included."""
    with raising(SendError):
        _host.broadcast(payload)


def send_to_leader(payload: bytes) -> None:
    """Any member to the leader; on the leader itself a local delivery."""
    with raising(SendError):
        _host.send_to_leader(payload)


def send(to: str, payload: bytes) -> None:
    """Any member to the member with the device id `to`."""
    with raising(SendError):
        _host.send(to, payload)


def send_to_all(payload: bytes) -> None:
    """Any member to every member, this device included."""
    with raising(SendError):
        _host.send_to_all(payload)
