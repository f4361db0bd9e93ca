import { expect, it, vi } from 'vitest';

it('takes neither time nor chance nor a timer when it is imported', async () => {
  const taken: string[] = [];
  // The test runner's own loader takes the time, too: only what comes from our files counts.
  const watch = <T extends object>(owner: T, name: keyof T & string) => {
    const original = owner[name] as (...parameters: unknown[]) => unknown;
    vi.spyOn(owner, name as never).mockImplementation(((...parameters: unknown[]) => {
      if ((new Error().stack ?? '').includes('/sdk/js/src/')) taken.push(name);
      return original.apply(owner, parameters);
    }) as never);
  };
  watch(Math, 'random');
  watch(Date, 'now');
  watch(performance, 'now');
  watch(globalThis, 'setTimeout');
  watch(globalThis, 'setInterval');
  vi.resetModules();
  const { PermcastClient } = await import('../src/index.ts');
  new PermcastClient();
  expect(taken).toEqual([]);
});
