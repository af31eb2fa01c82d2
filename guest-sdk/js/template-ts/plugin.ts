// Says who leads, and greets the group when this device does.

import { type Leadership, group, log, messages, payload, plugin } from "./consort/index.js";

export const { lifecycle, role, peerEvents, messageEvents, stateEvents, timers, localEvents, handover } = plugin({
  setup() {
    log.info("{{name}} is set up");
  },

  promoteLeader({ term }: Leadership) {
    log.info(`leader in term ${term}`);
    messages.broadcast(payload.encode({ greeting: group.thisDevice().name }));
  },

  promoteFollower({ leader }: Leadership) {
    log.info(`following ${leader.name}`);
  },

  leaderMessage(message: Uint8Array, { term }: Leadership) {
    log.info(`greeted by ${payload.decode(message).greeting} in term ${term}`);
  },
});
