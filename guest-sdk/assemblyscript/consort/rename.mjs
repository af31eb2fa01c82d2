// Gives the exports of a compiled plugin the names of the contract: node rename.mjs FROM TO

import { readFileSync, writeFileSync } from "node:fs";
import binaryen from "binaryen";

const NAMES = {
  setup: "lifecycle@0.1.0#setup",
  shutdown: "lifecycle@0.1.0#shutdown",
  promoteLeader: "role@0.1.0#promote-leader",
  demoteLeader: "role@0.1.0#demote-leader",
  promoteFollower: "role@0.1.0#promote-follower",
  demoteFollower: "role@0.1.0#demote-follower",
  peerAdded: "peer-events@0.1.0#on-peer-added",
  peerRemoved: "peer-events@0.1.0#on-peer-removed",
  leaderMessage: "message-events@0.1.0#on-leader-message",
  peerMessage: "message-events@0.1.0#on-peer-message",
  stateChanged: "state-events@0.1.0#on-state-changed",
  writesSuperseded: "state-events@0.1.0#on-writes-superseded",
  timer: "timers@0.1.0#on-timer",
  localRequest: "local-events@0.1.0#on-local-request",
  save: "handover@0.1.0#save",
  restore: "handover@0.1.0#restore",
};

const [from, to] = process.argv.slice(2);
// Keeps the names of functions, which the host shows when the plugin traps.
binaryen.setDebugInfo(true);
const module = binaryen.readBinary(readFileSync(from));
const exported = new Map();
for (let i = 0; i < module.getNumExports(); i++) {
  const info = binaryen.getExportInfo(module.getExportByIndex(i));
  exported.set(info.name, info.value);
}
for (const [own, name] of Object.entries(NAMES)) {
  if (!exported.has(own)) {
    throw new Error(`${own} is not exported: the entry file lacks export * from "./consort/exports"`);
  }
  module.removeExport(own);
  module.addFunctionExport(exported.get(own), `consort:plugin/${name}`);
}
writeFileSync(to, module.emitBinary());
