/** A position in the log of changes: `<epoch>.<seq>`. Pure. */

export type Version = string;

interface Parts {
  epoch: string;
  seq: number;
}

function parts(version: Version): Parts | null {
  const match = /^([a-z0-9]{8})\.(0|[1-9]\d{0,15})$/.exec(version);
  if (!match) return null;
  return { epoch: match[1] as string, seq: Number(match[2]) };
}

export function isVersion(text: unknown): text is Version {
  return typeof text === 'string' && parts(text) !== null;
}

/** The number within its epoch, for display. */
export function seqOf(version: Version): number | null {
  return parts(version)?.seq ?? null;
}

/**
 * Whether a snapshot at `have` satisfies one who was told that it must reach `need`. Another epoch never does:
 * the log was begun anew, and numbers of two logs say nothing about each other.
 */
export function reaches(have: Version, need: Version): boolean {
  const a = parts(have);
  const b = parts(need);
  return a !== null && b !== null && a.epoch === b.epoch && a.seq >= b.seq;
}

/** The higher of two versions, `later` being the one heard of last: one of a new epoch is always the higher. */
export function newer(earlier: Version | null, later: Version): Version {
  return earlier !== null && reaches(earlier, later) ? earlier : later;
}
