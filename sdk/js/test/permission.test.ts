import { describe, expect, it } from 'vitest';
import { allows, covers, isGrant, isPermission } from '../src/index.ts';

describe('the covering rule', () => {
  it.each([
    ['invoices:read', 'invoices:read'],
    ['invoices:read', 'invoices:read:42'],
    ['invoices', 'invoices:read:42'],
    ['invoices:*', 'invoices:read'],
    ['invoices:*', 'invoices'],
    ['invoices:*:*', 'invoices:read'],
    ['*', 'invoices:read'],
    ['*:read', 'invoices:read:42'],
    ['invoices:*:42', 'invoices:read:42'],
    ['permcast:admin', 'permcast:admin'],
    ['*', 'permcast'],
    ['permcasting:*', 'permcasting:admin'],
  ])('%s covers %s', (grant, request) => expect(covers(grant, request)).toBe(true));

  it.each([
    ['invoices:read', 'invoices'],
    ['invoices:read', 'invoices:write'],
    ['invoices:read:42', 'invoices:read'],
    ['invoices:*:42', 'invoices:read'],
    ['invoice', 'invoices'],
    ['*', 'permcast:admin'],
    ['permcast', 'permcast:admin'],
    ['permcast:*', 'permcast:admin'],
    ['permcast:admin', 'permcast:admin:more'],
    ['*', 'invoices:*'],
    ['invoices:*', 'invoices:*'],
    ['*', ''],
    ['*', 'invoices:'],
    ['*', 'Invoices:read'],
    ['', 'invoices'],
  ])('%s does not cover %s', (grant, request) => expect(covers(grant, request)).toBe(false));
});

it('lets an operator administer and check, and nobody else by way of a wildcard', () => {
  expect(allows(['permcast:operator'], 'permcast:admin')).toBe(true);
  expect(allows(['permcast:operator'], 'permcast:check')).toBe(true);
  expect(allows(['permcast:admin'], 'permcast:operator')).toBe(false);
  expect(allows(['*'], 'permcast:check')).toBe(false);
});

it('holds names to the grammar', () => {
  expect(isPermission('a:b:c:d:e:f:g:h')).toBe(true);
  expect(isPermission('a:b:c:d:e:f:g:h:i')).toBe(false);
  expect(isPermission(`a${'b'.repeat(63)}`)).toBe(true);
  expect(isPermission(`a${'b'.repeat(64)}`)).toBe(false);
  expect(isPermission('.a')).toBe(false);
  expect(isPermission('a:*')).toBe(false);
  expect(isGrant('a:*')).toBe(true);
  expect(isGrant('a:b*')).toBe(false);
});
