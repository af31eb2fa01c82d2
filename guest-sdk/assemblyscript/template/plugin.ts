// Says who leads, and greets the group when this device does.

import { Leadership, Plugin, Writer, decode, group, log, messages, register } from "./consort/index";

export * from "./consort/exports";

class Own extends Plugin {
  setup(): string | null {
    log.info("{{name}} is set up");
    return null;
  }

  promoteLeader(leadership: Leadership): void {
    log.info(`leader in term ${leadership.term}`);
    const greeting = new Writer().map(1).text("greeting").text(group.thisDevice().name).done();
    const error = messages.broadcast(greeting);
    if (error !== null) log.warn("not greeted: " + error.toString());
  }

  promoteFollower(leadership: Leadership): void {
    log.info("following " + leadership.leader.name);
  }

  leaderMessage(payload: Uint8Array, sender: Leadership): void {
    const message = decode(payload);
    const name = message !== null ? message.getText("greeting") : null;
    if (name !== null) log.info(`greeted by ${name} in term ${sender.term}`);
  }
}

register(new Own());
