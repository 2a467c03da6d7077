// Times in seconds, some of which are not known.

/** Return the earliest of some times, or null. */
export function earliest(times) {
  const known = times.filter((each) => each !== null);
  return known.length ? Math.min(...known) : null;
}
