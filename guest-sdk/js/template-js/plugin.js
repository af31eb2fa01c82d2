// Says who leads, and greets the group when this device does.

import { group, log, messages, payload, plugin } from "./consort/index.js";

export const { lifecycle, role, peerEvents, messageEvents, stateEvents, timers, localEvents, handover } = plugin({
  setup() {
    log.info("{{name}} is set up");
  },

  promoteLeader({ term }) {
    log.info(`leader in term ${term}`);
    messages.broadcast(payload.encode({ greeting: group.thisDevice().name }));
  },

  promoteFollower({ leader }) {
    log.info(`following ${leader.name}`);
  },

  leaderMessage(message, { term }) {
    log.info(`greeted by ${payload.decode(message).greeting} in term ${term}`);
  },
});
