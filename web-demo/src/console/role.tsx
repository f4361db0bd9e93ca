import { ActionIcon, Button, Group, Switch, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { isGrant, ProblemError } from '@permcast/client';
import { IconChevronLeft, IconShieldOff, IconX } from '@tabler/icons-react';
import { Link, useLocation } from 'wouter';
import type { Role } from '../lib/api.ts';
import { useChange, usePaths } from '../lib/context.tsx';
import { Empty } from '../lib/empty.tsx';
import parts from '../lib/parts.module.css';
import { Chip, ConfirmButton, PageHead, Pending, Section } from './parts.tsx';
import { useAllRoles, useRole } from './queries.ts';

export function RolePage({ name }: { name: string }) {
  const role = useRole(name);
  const change = useChange();
  const where = usePaths();
  const [, navigate] = useLocation();
  if (role.error instanceof ProblemError && role.error.status === 404) {
    return (
      <Empty icon={IconShieldOff} title="No such role">
        There is no role <code>{name}</code>, or not any more. <Link href="/roles">All roles</Link>
      </Empty>
    );
  }
  return (
    <>
      <Link href="/roles" className={parts['crumb'] ?? ''}>
        <IconChevronLeft size={15} aria-hidden="true" /> Roles
      </Link>
      {role.data === undefined ? (
        <Pending error={role.error} retry={() => void role.refetch()} />
      ) : (
        <>
          <PageHead title={name} about={role.data.description}>
            <ConfirmButton
              label="Delete"
              title={`Delete the role ${name}?`}
              confirm="Delete role"
              subtle
              onConfirm={() =>
                change.mutate(
                  { title: `The role ${name} is deleted`, method: 'DELETE', path: where.role(name) },
                  { onSuccess: () => navigate('/roles') },
                )
              }
            >
              Everybody who has it loses it, directly or through a role that includes it. That is one change, however
              many they are.
            </ConfirmButton>
          </PageHead>
          <div className={parts['columns']}>
            <Permissions role={role.data} />
            <Includes role={role.data} />
          </div>
        </>
      )}
    </>
  );
}

function Permissions({ role }: { role: Role }) {
  const change = useChange();
  const where = usePaths();
  const form = useForm({
    initialValues: { permission: '' },
    validate: {
      permission: (text) => {
        if (role.permissions.includes(text)) return 'The role has it already';
        return isGrant(text) ? null : 'Such as invoices:read, invoices:read:42 or invoices:*';
      },
    },
  });
  const submit = form.onSubmit(({ permission }) =>
    change.mutate(
      { title: `${role.name} gains ${permission}`, method: 'PUT', path: where.rolePermission(role.name, permission) },
      { onSuccess: () => form.reset() },
    ),
  );
  return (
    <Section title="Permissions" about="Each edit reaches all who have the role, and is one row in the log">
      {role.permissions.length === 0 && <span className={parts['soft']}>None of its own.</span>}
      {role.permissions.map((permission) => (
        <div key={permission} className={parts['row']}>
          <div className={parts['grow']}>
            <Chip>{permission}</Chip>
          </div>
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-label={`Take ${permission} out of ${role.name}`}
            onClick={() =>
              change.mutate({
                title: `${role.name} drops ${permission}`,
                method: 'DELETE',
                path: where.rolePermission(role.name, permission),
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
            placeholder="invoices:read"
            aria-label="Permission"
            spellCheck={false}
            autoCapitalize="none"
            {...form.getInputProps('permission')}
          />
          <Button type="submit" variant="default" loading={change.isPending && change.variables?.method === 'PUT'}>
            Add
          </Button>
        </Group>
      </form>
    </Section>
  );
}

function Includes({ role }: { role: Role }) {
  const change = useChange();
  const where = usePaths();
  const roles = useAllRoles();
  const others = (roles.data ?? []).filter((other) => other.name !== role.name);
  return (
    <Section title="Includes" about="Who has this role has these, too">
      {roles.data === undefined && <Pending error={roles.error} retry={() => void roles.refetch()} />}
      {roles.data !== undefined && others.length === 0 && <span className={parts['soft']}>There is no other role.</span>}
      {others.map((other) => (
        <div key={other.name} className={parts['row']}>
          <div className={parts['grow']}>
            <strong>{other.name}</strong>
            <small>{other.description}</small>
          </div>
          <Switch
            checked={role.includes.includes(other.name)}
            aria-label={`${role.name} includes ${other.name}`}
            onChange={({ currentTarget: { checked } }) =>
              change.mutate({
                title: `${role.name} ${checked ? 'now includes' : 'no longer includes'} ${other.name}`,
                method: checked ? 'PUT' : 'DELETE',
                path: where.roleInclude(role.name, other.name),
              })
            }
          />
        </div>
      ))}
    </Section>
  );
}
