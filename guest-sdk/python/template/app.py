"""Says who leads, and greets the group when this device does."""

import consort
from consort import Leadership, group, log, messages, payload


@consort.plugin
class {{Name}}(consort.Plugin):
    def setup(self) -> None:
        log.info("{{name}} is set up")

    def promote_leader(self, leadership: Leadership) -> None:
        log.info(f"leader in term {leadership.term}")
        messages.broadcast(payload.encode({"greeting": group.this_device().name}))

    def promote_follower(self, leadership: Leadership) -> None:
        log.info(f"following {leadership.leader.name}")

    def leader_message(self, payload: bytes, sender: Leadership) -> None:
        message = consort.payload.decode(payload)
        log.info(f"greeted by {message['greeting']} in term {sender.term}")
