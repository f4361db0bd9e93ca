// @vitest-environment happy-dom
import { act, type ReactNode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Can, PermcastProvider, usePermcast, usePermission } from '../src/react/index.tsx';
import { settle } from './support/clock.ts';
import { World } from './support/world.ts';

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean;
}

let root: Root;
let host: HTMLElement;

beforeEach(() => {
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  host = document.createElement('div');
  root = createRoot(host);
});

afterEach(() => act(() => root.unmount()));

const draw = (world: World, children: ReactNode) =>
  act(() => root.render(<PermcastProvider client={world.client}>{children}</PermcastProvider>));

it('shows a button only to who may, and takes it away when that changes', async () => {
  const world = await World.signedIn();
  await draw(world, <Can permission="invoices:read" otherwise="nothing">the button</Can>);
  expect(host.textContent).toBe('the button');
  await act(async () => {
    world.server.grant([]);
    await settle();
  });
  expect(host.textContent).toBe('nothing');
});

it('redraws for a permission only when the answer turns', async () => {
  const world = await World.signedIn();
  let draws = 0;
  function Probe() {
    draws += 1;
    return <>{String(usePermission('invoices:read'))}</>;
  }
  await draw(world, <Probe />);
  await act(async () => {
    world.server.grant(['invoices:read', 'reports:read']);
    await settle();
  });
  expect(host.textContent).toBe('true');
  expect(draws).toBe(1);
});

it('follows the state', async () => {
  const world = new World();
  function Probe() {
    return <>{usePermcast().state.status}</>;
  }
  await draw(world, <Probe />);
  expect(host.textContent).toBe('signed_out');
  await act(() => world.signIn());
  expect(host.textContent).toBe('signed_in');
});

it('says what is missing where there is no provider', () => {
  function Probe() {
    return <>{String(usePermission('a'))}</>;
  }
  expect(() => act(() => root.render(<Probe />))).toThrow('<PermcastProvider>');
});
