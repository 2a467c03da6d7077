// JSON and texts, as the hub takes them.

import { NOT_ENCODABLE, WsdError } from "./errors.js";

const LONE_SURROGATE = /[\ud800-\udfff]/u;
const ESCAPED_SURROGATE = /\\ud[89a-f]/; // JSON.stringify escapes only those that are alone
const ASCII = /^[\0-\x7f]*$/;
const encoder = new TextEncoder();

/** Return whether a value is a text that can be sent: one that UTF-8 can write. */
export function isText(value) {
  return typeof value === "string" && !LONE_SURROGATE.test(value);
}

/** Return the bytes of a text in UTF-8. */
export function byteLength(text) {
  return ASCII.test(text) ? text.length : encoder.encode(text).length;
}

/**
 * Return a JSON object as text, and the bytes of it.
 *
 * Throws WsdError `not_encodable` for what JSON cannot say. JSON.stringify would leave it out or write null instead.
 */
export function encoded(fields) {
  try {
    const text = JSON.stringify(fields, sendable);
    if (text.includes("\\ud") && ESCAPED_SURROGATE.test(text.replaceAll("\\\\", ""))) {
      throw new TypeError("a text has half a character");
    }
    return [text, byteLength(text)];
  } catch (error) {
    throw new WsdError(NOT_ENCODABLE, `this cannot be sent as JSON: ${reasonOf(error)}`);
  }
}

/** Return what a thrown value says. It may be anything, even an object that cannot be made a text. */
export function reasonOf(error) {
  try {
    return String(error?.message ?? error);
  } catch {
    return "unknown";
  }
}

function sendable(key, value) {
  const kind = typeof value;
  if (kind === "function" || kind === "symbol") throw new TypeError(`"${key}" is a ${kind}`);
  if (kind === "number" && !Number.isFinite(value)) throw new TypeError(`"${key}" is ${value}`);
  if (kind === "undefined" && Array.isArray(this)) throw new TypeError("an element of an array is undefined");
  return value;
}
