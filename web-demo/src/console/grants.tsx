import { ActionIcon, Button, Group, Select, Switch, TextInput, Tooltip } from '@mantine/core';
import { useForm } from '@mantine/form';
import { isGrant } from '@permcast/client';
import { IconClock, IconX } from '@tabler/icons-react';
import { useState } from 'react';
import type { Grant, Role } from '../lib/api.ts';
import { useChange, usePaths } from '../lib/context.tsx';
import { ago, dateTime } from '../lib/format.ts';
import parts from '../lib/parts.module.css';
import { Chip, Pending, Section } from './parts.tsx';
import { useAccess, useAllRoles } from './queries.ts';

/** For how long a grant holds. */
const SPANS = [
  { value: '', label: 'for good' },
  { value: '30', label: 'for 30 seconds' },
  { value: '3600', label: 'for an hour' },
  { value: '86400', label: 'for a day' },
  { value: '604800', label: 'for a week' },
];

/** The body of a grant. */
function until(span: string): { expires_at?: string } {
  return span === '' ? {} : { expires_at: new Date(Date.now() + Number(span) * 1_000).toISOString() };
}

/** A user's roles and direct permissions: each switch is a change, at once. */
export function Grants({ id }: { id: string }) {
  const access = useAccess(id);
  const roles = useAllRoles();
  if (access.data === undefined || roles.data === undefined) {
    return (
      <Section title="Roles">
        <Pending
          error={access.error ?? roles.error}
          retry={() => {
            void access.refetch();
            void roles.refetch();
          }}
        />
      </Section>
    );
  }
  const grants: Grant[] = access.data.grants ?? access.data.roles.map((role) => ({ role, expires_at: null }));
  return (
    <>
      <RoleGrants id={id} grants={grants} roles={roles.data} />
      <PermissionGrants id={id} grants={grants.filter((grant) => grant.permission !== undefined)} />
    </>
  );
}

function RoleGrants({ id, grants, roles }: { id: string; grants: readonly Grant[]; roles: readonly Role[] }) {
  const [span, setSpan] = useState('');
  return (
    <Section
      title="Roles"
      about="Each switch is a change at once, on every replica and in every tab."
      action={
        <Select
          aria-label="For how long a role is given"
          size="xs"
          w={150}
          allowDeselect={false}
          data={SPANS}
          value={span}
          onChange={(value) => setSpan(value ?? '')}
        />
      }
    >
      {roles.length === 0 && <span className={parts['soft']}>There are no roles yet.</span>}
      {roles.map((role) => {
        const grant = grants.find((candidate) => candidate.role === role.name);
        return (
          <div key={role.name} className={parts['row']}>
            <div className={parts['grow']}>
              <strong>{role.name}</strong> {grant !== undefined && <Expiry at={grant.expires_at} />}
              <small>{role.description || role.permissions.join(', ') || 'no permissions of its own'}</small>
            </div>
            <RoleSwitch user={id} role={role.name} held={grant !== undefined} span={span} />
          </div>
        );
      })}
    </Section>
  );
}

/** Gives a role and takes it away. */
export function RoleSwitch(props: { user: string; role: string; held: boolean; span?: string }) {
  const { user, role, held, span = '' } = props;
  const change = useChange();
  const where = usePaths();
  const path = where.userRole(user, role);
  // It goes where it was put at once, and stays there unless the server says no.
  const wanted = change.isPending ? change.variables.method === 'PUT' : held;
  return (
    <Switch
      checked={wanted}
      disabled={change.isPending}
      aria-label={`${user} has the role ${role}`}
      data-testid={`role-${role}`}
      onChange={({ currentTarget: { checked } }) =>
        change.mutate(
          checked
            ? { title: `${user} gets the role ${role}`, method: 'PUT', path, json: until(span) }
            : { title: `${user} loses the role ${role}`, method: 'DELETE', path },
        )
      }
    />
  );
}

function PermissionGrants({ id, grants }: { id: string; grants: readonly Grant[] }) {
  const change = useChange();
  const where = usePaths();
  const form = useForm({
    initialValues: { permission: '', span: '' },
    validate: { permission: (text) => (isGrant(text) ? null : 'Such as invoices:read, invoices:read:42 or invoices:*') },
  });
  const submit = form.onSubmit(({ permission, span }) =>
    change.mutate(
      {
        title: `${id} gets ${permission}`,
        method: 'PUT',
        path: where.userPermission(id, permission),
        json: until(span),
      },
      { onSuccess: () => form.reset() },
    ),
  );
  return (
    <Section title="Direct permissions" about="Beside the roles, for this user alone">
      {grants.length === 0 && <span className={parts['soft']}>None. Most users need only roles.</span>}
      {grants.map(({ permission = '', expires_at }) => (
        <div key={permission} className={parts['row']}>
          <div className={parts['grow']}>
            <Chip>{permission}</Chip> <Expiry at={expires_at} />
          </div>
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-label={`Take ${permission} away`}
            onClick={() =>
              change.mutate({
                title: `${id} loses ${permission}`,
                method: 'DELETE',
                path: where.userPermission(id, permission),
              })
            }
          >
            <IconX size={16} />
          </ActionIcon>
        </div>
      ))}
      <form onSubmit={submit} noValidate>
        <Group mt="md" gap="xs" align="flex-start">
          <TextInput
            flex={1}
            miw={140}
            placeholder="invoices:read:1042"
            aria-label="Permission"
            spellCheck={false}
            autoCapitalize="none"
            {...form.getInputProps('permission')}
          />
          <Select w={150} aria-label="For how long" allowDeselect={false} data={SPANS} {...form.getInputProps('span')} />
          <Button type="submit" variant="default" loading={change.isPending && change.variables?.method === 'PUT'}>
            Give
          </Button>
        </Group>
      </form>
    </Section>
  );
}

function Expiry({ at }: { at: string | null }) {
  if (at === null) return null;
  return (
    <Tooltip label={`Deleted by itself at ${dateTime(at)}: a change like any other, logged and pushed`}>
      <span>
        <Chip tone="pulse">
          <IconClock size={13} aria-hidden="true" /> ends {ago(at)}
        </Chip>
      </span>
    </Tooltip>
  );
}
