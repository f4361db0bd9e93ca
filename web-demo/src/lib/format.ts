/** Numbers and times for people. */

/** Milliseconds with as many digits as say something: 0.4 ms, 12 ms, 1.3 s. */
export function ms(value: number): string {
  const shown = Math.max(0, value);
  if (shown < 9.95) return `${shown.toFixed(1)} ms`;
  if (shown < 999.5) return `${Math.round(shown)} ms`;
  return `${(shown / 1_000).toFixed(1)} s`;
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1_000],
];

export function ago(time: string | number, now = Date.now()): string {
  const distance = new Date(time).getTime() - now;
  if (Number.isNaN(distance)) return '';
  if (Math.abs(distance) < 5_000) return 'just now';
  const [unit, size] = UNITS.find(([, length]) => Math.abs(distance) >= length) ?? ['second', 1_000];
  return new Intl.RelativeTimeFormat('en', { numeric: 'auto' }).format(Math.trunc(distance / size), unit);
}

export function clock(time: string | number): string {
  return new Date(time).toLocaleTimeString([], { hour12: false });
}

export function dateTime(time: string | number): string {
  return new Date(time).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/);
  return ((words[0]?.[0] ?? '?') + (words.length > 1 ? (words.at(-1)?.[0] ?? '') : '')).toUpperCase();
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
