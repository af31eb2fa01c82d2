"""Programs on this same device that talk to this plugin: a player, a kiosk page, a sensor script.

Nothing of it leaves the device. A plugin needs the capability `local`: asked for in its manifest,
granted in the operator's settings. What the programs ask arrives as `Plugin.local_request`.
"""

from wit_world.imports import local as _host


def publish(topic: str, payload: bytes, retain: bool = False) -> None:
    """To every local subscriber of `topic`.

    With `retain`, also to those that subscribe later, until something else is published there.
    """
    _host.publish(topic, payload, retain)
