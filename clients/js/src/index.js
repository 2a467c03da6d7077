// What the package wsd-client exports.

export { WsdClient } from "./client.js";
export { WsdError } from "./errors.js";
