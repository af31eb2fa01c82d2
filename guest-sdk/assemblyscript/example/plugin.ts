/*
 * The tour: every callback and every call of the host, once, in the same words in every language.
 *
 * It greets its peers, tells what it hears, and does what messages of the form {"op": ...} ask for.
 */

import {
  Answer,
  Change,
  Entry,
  HostError,
  Kind,
  Leadership,
  Origin,
  Outcome,
  Peer,
  Plugin,
  Reason,
  Writer,
  clock,
  config,
  counters,
  decode,
  deviceState,
  group,
  leaderState,
  local,
  log,
  messages,
  register,
  sharedState,
} from "./consort/index";

export * from "./consort/exports";

const ONCE: u64 = 1;
const ALWAYS: u64 = 2;
const NEVER: u64 = 3;

const REASONS = ["stop", "reload", "remove"];
const ORIGINS = ["leader", "device", "shared", "counter"];

function hello(): Uint8Array {
  const name = group.thisDevice().name;
  return new Writer().map(2).text("op").text("hello").text("from").text(name).done();
}

function yes(answer: bool): string {
  return answer ? "yes" : "no";
}

/** The contract's words for what came of a call. */
function outcome(error: HostError | null): string {
  return error === null ? "ok" : error.toString();
}

function text(value: Uint8Array | null): string {
  return value === null ? "none" : String.UTF8.decodeUnsafe(value.dataStart, value.length);
}

function bytes(value: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(value));
}

function listed(entries: Entry<Uint8Array>[], withKeys: bool): string {
  const parts: string[] = [];
  for (let i = 0; i < entries.length; i++) {
    const value = text(entries[i].value);
    parts.push(withKeys ? entries[i].key + "=" + value : value);
  }
  return parts.join(",");
}

/** Who says hello; empty if it is none. */
function sender(payload: Uint8Array): string {
  const message = decode(payload);
  const from = message !== null ? message.getText("from") : null;
  return from !== null ? from : "";
}

function told(payload: Uint8Array): string {
  const from = sender(payload);
  return from.length > 0 ? "hello from " + from : "no MessagePack";
}

function describe(change: Change): string {
  switch (change.outcome) {
    case Outcome.Put:
      return "put " + (change.key == "hello" ? told(change.value) : text(change.value));
    case Outcome.Counted:
      return "counted " + change.sum.toString();
    case Outcome.Deleted:
      return "deleted";
    default:
      return "expired";
  }
}

class Tour extends Plugin {
  private heard: u64 = 0;

  setup(): string | null {
    const refusal = config.get("refuse");
    if (refusal !== null) return "refused: " + refusal;
    log.trace("a trace");
    log.debug("a detail");
    const greeting = config.get("greeting");
    log.info(`setup: ${config.entries().length} settings, greeting ${greeting === null ? "none" : greeting}`);
    clock.wakeAt(clock.now() + 1_000_000, ONCE);
    clock.wakeEvery(10_000_000, ALWAYS);
    clock.wakeAt(clock.now() + 1_000_000, NEVER);
    clock.cancel(NEVER);
    return null;
  }

  shutdown(reason: Reason): void {
    log.info("shutdown: " + REASONS[reason]);
  }

  promoteLeader(leadership: Leadership): void {
    log.info(`promote-leader: ${leadership.leader.name} in term ${leadership.term}`);
    log.info("broadcast: " + outcome(messages.broadcast(hello())));
    log.info("leader-state: hello " + outcome(leaderState.put("hello", hello())));
    log.info("shared-state: hello " + outcome(sharedState.put("hello", hello())));
    log.info(`counters: tenures ${counters.add("tenures", 1).sum}`);
  }

  demoteLeader(): void {
    log.info("demote-leader: leading " + yes(group.isLeader()));
  }

  promoteFollower(leadership: Leadership): void {
    log.info(`promote-follower: ${leadership.leader.name} in term ${leadership.term}`);
    log.info("send-to-leader: " + outcome(messages.sendToLeader(hello())));
    const hellos = deviceState.collect("hello");
    const names: string[] = [];
    for (let i = 0; i < hellos.length; i++) names.push(sender(hellos[i].value));
    log.info("device-state: hello from " + names.join(","));
  }

  demoteFollower(): void {
    log.info("demote-follower");
  }

  peerAdded(peer: Peer): void {
    log.info(`peer-added: ${peer.name} of ${group.peers().length}`);
    if (peer.isSelf) log.info("device-state: hello " + outcome(deviceState.put("hello", hello())));
    else log.info("send: " + outcome(messages.send(peer.device, hello())));
  }

  peerRemoved(peer: Peer): void {
    log.info(`peer-removed: ${peer.name} of ${group.peers().length}`);
  }

  leaderMessage(payload: Uint8Array, sender: Leadership): void {
    this.heard++;
    log.info(`leader-message: ${told(payload)} in term ${sender.term}`);
  }

  peerMessage(payload: Uint8Array, sender: Peer): void {
    this.heard++;
    const request = decode(payload);
    if (request === null) {
      log.warn("peer-message: no MessagePack");
      return;
    }
    const op = request.getText("op");
    if (op == "hello") {
      const from = request.getText("from");
      log.info("peer-message: hello from " + (from === null ? "nobody" : from));
    } else if (op == "echo") {
      const value = request.get("value");
      const writer = new Writer().map(2).text("op").text("echoed").text("value");
      const answer = (value === null ? writer.nil() : writer.value(value)).done();
      log.info("echo: " + outcome(messages.send(sender.device, answer)));
    } else if (op == "group") {
      tellGroup();
    } else if (op == "time") {
      tellTime();
    } else if (op == "errors") {
      tellErrors();
    } else if (op == "state") {
      useState();
    } else if (op == "local") {
      useLocal();
    } else if (op == "fault") {
      throw new Error("asked to fail");
    } else {
      log.warn("peer-message: unknown");
    }
  }

  stateChanged(changes: Change[]): void {
    for (let i = 0; i < changes.length; i++) {
      const change = changes[i];
      let origin = ORIGINS[change.origin];
      if (change.origin == Origin.Device) origin += " " + change.device;
      log.info(`state-changed: ${origin} ${change.key} ${describe(change)}`);
    }
  }

  writesSuperseded(keys: string[]): void {
    log.info("writes-superseded: " + keys.join(","));
  }

  timer(token: u64, due: u64): void {
    log.info(`timer: ${token} due ${yes(due <= clock.now())}`);
  }

  localRequest(topic: string, payload: Uint8Array): Answer {
    log.info(`local-request: ${topic} with ${payload.length} bytes`);
    return topic == "echo" ? Answer.of(payload) : Answer.refuse("refused: " + topic);
  }

  save(): Uint8Array {
    log.info(`save: ${this.heard}`);
    return new Writer().map(1).text("heard").unsigned(this.heard).done();
  }

  restore(saved: Uint8Array, fromVersion: string): string | null {
    const value = decode(saved);
    if (value === null) return "restore: no MessagePack";
    const heard = value.get("heard");
    if (heard !== null && heard.kind == Kind.Unsigned) this.heard = heard.unsigned;
    log.info(`restore: ${this.heard} from ${fromVersion}`);
    return null;
  }
}

function tellGroup(): void {
  const leader = group.leader();
  const led = leader === null ? "none" : `${leader.leader.name} in term ${leader.term}`;
  log.info(`group: leader ${led}, leading ${yes(group.isLeader())}`);
  const peers = group.peers();
  for (let i = 0; i < peers.length; i++) {
    const peer = peers[i];
    const times = `delta ${peer.clockDelta}, round trip ${peer.roundTrip}`;
    log.info(`group: ${peer.name} at ${peer.address}, self ${yes(peer.isSelf)}, ${times}`);
  }
}

function tellTime(): void {
  const quality = clock.quality();
  log.info(`time: synchronised ${yes(quality.synchronised)}, bound ${quality.errorBound}`);
  log.info("time: " + yes(clock.now() > 1_600_000_000_000_000));
}

function tellErrors(): void {
  log.error("broadcast: " + outcome(messages.broadcast(hello())));
  log.error("send: " + outcome(messages.send("nobody", hello())));
  log.error("send-to-all: " + outcome(messages.sendToAll(new Uint8Array(70_000))));
  log.error("put: " + outcome(sharedState.put("", new Uint8Array(0))));
}

function useState(): void {
  log.info("leader-state: put " + outcome(leaderState.put("motto", bytes("onward"))));
  const motto = text(leaderState.get("motto"));
  log.info(`leader-state: ${motto} ${leaderState.keys("mo").join(",")} ${listed(leaderState.entries("mo"), true)}`);
  log.info("leader-state: delete " + outcome(leaderState.remove("motto")));

  const device = group.thisDevice().device;
  log.info("device-state: put " + outcome(deviceState.put("mood", bytes("calm"), 60_000)));
  const mood = text(deviceState.get(device, "mood"));
  log.info(`device-state: ${mood} ${deviceState.keys(device, "mo").join(",")} ${listed(deviceState.collect("mood"), false)}`);
  log.info("device-state: delete " + outcome(deviceState.remove("mood")));

  log.info("shared-state: put " + outcome(sharedState.put("colour", bytes("red"))));
  const colour = text(sharedState.get("colour"));
  log.info(`shared-state: ${colour} ${sharedState.keys("co").join(",")} ${listed(sharedState.entries("co"), true)}`);
  log.info("shared-state: delete " + outcome(sharedState.remove("colour")));

  log.info(`counters: add ${counters.add("visits", 2).sum}`);
  log.info(`counters: ${counters.get("visits")}`);
}

function useLocal(): void {
  local.publish("moment", bytes("now"));
  local.publish("hello", hello(), true);
  log.info("local: published yes");
}

register(new Tour());
