/*
 * Write Consort plugins in AssemblyScript: a class that extends `Plugin` overrides the callbacks
 * that it wants, and `register` makes an object of it the plugin.
 */

export * from "./host";
export * from "./payload";
export * from "./plugin";
export { Added, Answer, Change, Entry, HostError, Leadership, Origin, Outcome, Peer, Reason } from "./types";
