"""The tour: every callback and every call of the host, once, in the same words in every language.

It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.
"""

import random
import time
from typing import Callable

import consort
from consort import Change, Leadership, Origin, Outcome, Peer, Reason, SendError, WriteError
from consort import clock, config, counters, device_state, group, leader_state, log, messages
from consort import local, payload, shared_state

ONCE, ALWAYS, NEVER = 1, 2, 3


@consort.plugin
class Tour(consort.Plugin):
    def __init__(self) -> None:
        self.heard = 0

    def setup(self) -> None:
        if (refusal := config.get("refuse")) is not None:
            raise consort.Error(f"refused: {refusal}")
        log.trace("a trace")
        log.debug("a detail")
        log.info(f"setup: {len(config.entries())} settings, greeting {config.get('greeting')}")
        clock.wake_at(clock.now() + 1_000_000, ONCE)
        clock.wake_every(10_000_000, ALWAYS)
        clock.wake_at(clock.now() + 1_000_000, NEVER)
        clock.cancel(NEVER)
        tell_chance()

    def shutdown(self, reason: Reason) -> None:
        log.info(f"shutdown: {reason.name.lower()}")

    def promote_leader(self, leadership: Leadership) -> None:
        log.info(f"promote-leader: {leadership.leader.name} in term {leadership.term}")
        log.info(f"broadcast: {sent(messages.broadcast, hello())}")
        log.info(f"leader-state: hello {written(leader_state.put, 'hello', hello())}")
        log.info(f"shared-state: hello {written(shared_state.put, 'hello', hello())}")
        log.info(f"counters: tenures {counters.add('tenures', 1)}")

    def demote_leader(self) -> None:
        log.info(f"demote-leader: leading {yes(group.is_leader())}")

    def promote_follower(self, leadership: Leadership) -> None:
        log.info(f"promote-follower: {leadership.leader.name} in term {leadership.term}")
        log.info(f"send-to-leader: {sent(messages.send_to_leader, hello())}")
        hellos = device_state.collect("hello").values()
        names = ",".join(payload.decode(value)["from"] for value in hellos)
        log.info(f"device-state: hello from {names}")

    def demote_follower(self) -> None:
        log.info("demote-follower")

    def peer_added(self, peer: Peer) -> None:
        log.info(f"peer-added: {peer.name} of {len(group.peers())}")
        if peer.is_self:
            log.info(f"device-state: hello {written(device_state.put, 'hello', hello())}")
        else:
            log.info(f"send: {sent(messages.send, peer.device, hello())}")

    def peer_removed(self, peer: Peer) -> None:
        log.info(f"peer-removed: {peer.name} of {len(group.peers())}")

    def leader_message(self, payload: bytes, sender: Leadership) -> None:
        self.heard += 1
        log.info(f"leader-message: {told(payload)} in term {sender.term}")

    def peer_message(self, payload: bytes, sender: Peer) -> None:
        self.heard += 1
        try:
            request = consort.payload.decode(payload)
        except consort.payload.DecodeError:
            log.warn("peer-message: no MessagePack")
            return
        operation = request.get("op") if isinstance(request, dict) else None
        if operation == "hello":
            log.info(f"peer-message: hello from {request['from']}")
        elif operation == "echo":
            answer = consort.payload.encode({"op": "echoed", "value": request["value"]})
            log.info(f"echo: {sent(messages.send, sender.device, answer)}")
        elif operation == "group":
            tell_group()
        elif operation == "time":
            tell_time()
        elif operation == "errors":
            tell_errors()
        elif operation == "state":
            use_state()
        elif operation == "local":
            use_local()
        elif operation == "fault":
            raise RuntimeError("asked to fail")
        else:
            log.warn("peer-message: unknown")

    def state_changed(self, changes: list[Change]) -> None:
        for change in changes:
            origin = change.origin.value
            if change.origin is Origin.DEVICE:
                origin = f"device {change.device}"
            log.info(f"state-changed: {origin} {change.key} {outcome(change)}")

    def writes_superseded(self, keys: list[str]) -> None:
        log.info(f"writes-superseded: {','.join(keys)}")

    def timer(self, token: int, due: int) -> None:
        log.info(f"timer: {token} due {yes(due <= clock.now())}")
        tell_chance()

    def local_request(self, topic: str, payload: bytes) -> bytes:
        log.info(f"local-request: {topic} with {len(payload)} bytes")
        if topic == "echo":
            return payload
        raise consort.Error(f"refused: {topic}")

    def save(self) -> bytes:
        log.info(f"save: {self.heard}")
        return payload.encode({"heard": self.heard})

    def restore(self, saved: bytes, from_version: str) -> None:
        try:
            self.heard = payload.decode(saved)["heard"]
        except payload.DecodeError:
            raise consort.Error("restore: no MessagePack") from None
        log.info(f"restore: {self.heard} from {from_version}")


def hello() -> bytes:
    return payload.encode({"op": "hello", "from": group.this_device().name})


def told(message: bytes | None) -> str:
    try:
        return f"hello from {payload.decode(message or b"")['from']}"
    except payload.DecodeError:
        return "no MessagePack"


def sent(call: Callable[..., None], *arguments: object) -> str:
    try:
        call(*arguments)
    except SendError as error:
        return str(error)
    return "ok"


def written(call: Callable[..., None], *arguments: object) -> str:
    try:
        call(*arguments)
    except WriteError as error:
        return str(error)
    return "ok"


def yes(answer: bool) -> str:
    return "yes" if answer else "no"


def text(value: bytes | None) -> str:
    return "none" if value is None else value.decode()


def outcome(change: Change) -> str:
    if change.outcome is Outcome.PUT:
        return f"put {told(change.value) if change.key == 'hello' else text(change.value)}"
    if change.outcome is Outcome.COUNTED:
        return f"counted {change.sum}"
    return str(change.outcome.value)


def tell_group() -> None:
    leader = group.leader()
    led = "none" if leader is None else f"{leader.leader.name} in term {leader.term}"
    log.info(f"group: leader {led}, leading {yes(group.is_leader())}")
    for peer in group.peers():
        log.info(
            f"group: {peer.name} at {peer.address}, self {yes(peer.is_self)}, "
            f"delta {peer.clock_delta}, round trip {peer.round_trip}"
        )


def tell_time() -> None:
    quality = clock.quality()
    log.info(f"time: synchronised {yes(quality.synchronised)}, bound {quality.error_bound}")
    log.info(f"time: {yes(clock.now() > 1_600_000_000_000_000)}")


def tell_chance() -> None:
    """With the setting `chance`: the clock and the randomness that the language has by itself."""
    if config.get("chance") is None:
        return
    log.info(f"chance: {random.random()} {random.SystemRandom().random()} at {time.time_ns()}")


def tell_errors() -> None:
    log.error(f"broadcast: {sent(messages.broadcast, hello())}")
    log.error(f"send: {sent(messages.send, 'nobody', hello())}")
    log.error(f"send-to-all: {sent(messages.send_to_all, bytes(70_000))}")
    log.error(f"put: {written(shared_state.put, '', b'')}")


def use_state() -> None:
    log.info(f"leader-state: put {written(leader_state.put, 'motto', b'onward')}")
    listed = ",".join(f"{key}={text(value)}" for key, value in leader_state.entries("mo").items())
    log.info(f"leader-state: {text(leader_state.get('motto'))} {','.join(leader_state.keys('mo'))} {listed}")
    log.info(f"leader-state: delete {written(leader_state.delete, 'motto')}")

    this = group.this_device().device
    log.info(f"device-state: put {written(device_state.put, 'mood', b'calm', 60_000)}")
    listed = ",".join(text(value) for value in device_state.collect("mood").values())
    log.info(f"device-state: {text(device_state.get(this, 'mood'))} {','.join(device_state.keys(this, 'mo'))} {listed}")
    log.info(f"device-state: delete {written(device_state.delete, 'mood')}")

    log.info(f"shared-state: put {written(shared_state.put, 'colour', b'red')}")
    listed = ",".join(f"{key}={text(value)}" for key, value in shared_state.entries("co").items())
    log.info(f"shared-state: {text(shared_state.get('colour'))} {','.join(shared_state.keys('co'))} {listed}")
    log.info(f"shared-state: delete {written(shared_state.delete, 'colour')}")

    log.info(f"counters: add {counters.add('visits', 2)}")
    log.info(f"counters: {counters.get('visits')}")


def use_local() -> None:
    local.publish("moment", b"now")
    local.publish("hello", hello(), retain=True)
    log.info("local: published yes")
