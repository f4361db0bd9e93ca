import { Button, Group, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { ProblemError } from '@permcast/client';
import { usePermcast } from '@permcast/client/react';
import { IconChevronLeft, IconUserOff } from '@tabler/icons-react';
import { Link, useLocation } from 'wouter';
import type { User } from '../lib/api.ts';
import { useChange, usePaths } from '../lib/context.tsx';
import { Empty } from '../lib/empty.tsx';
import parts from '../lib/parts.module.css';
import { Grants } from './grants.tsx';
import { Chip, Chips, ConfirmButton, PageHead, Pending, Section } from './parts.tsx';
import { useAccess, useUser } from './queries.ts';
import { Sessions } from './sessions.tsx';

export function UserPage({ id }: { id: string }) {
  const user = useUser(id);
  if (user.error instanceof ProblemError && user.error.status === 404) {
    return (
      <Empty icon={IconUserOff} title="No such user">
        There is no user <code>{id}</code>, or not any more. <Link href="/users">All users</Link>
      </Empty>
    );
  }
  return (
    <>
      <Link href="/users" className={parts['crumb'] ?? ''}>
        <IconChevronLeft size={15} aria-hidden="true" /> Users
      </Link>
      {user.data === undefined ? (
        <Pending error={user.error} retry={() => void user.refetch()} />
      ) : (
        <>
          <PageHead
            title={user.data.name || user.data.id}
            about={
              <>
                <code>{user.data.id}</code>{' '}
                <Chip tone={user.data.status === 'active' ? 'go' : 'pulse'}>{user.data.status}</Chip>
              </>
            }
          >
            <Actions user={user.data} />
          </PageHead>
          <div className={parts['columns']}>
            <div className={parts['stack']}>
              <Grants id={id} />
              <Sessions id={id} />
            </div>
            <div className={parts['stack']}>
              <MayDo id={id} />
              <Profile user={user.data} />
            </div>
          </div>
        </>
      )}
    </>
  );
}

function MayDo({ id }: { id: string }) {
  const access = useAccess(id);
  return (
    <Section title="May do" about="All that direct grants and roles come to, included roles followed">
      {access.data === undefined ? (
        <Pending error={access.error} retry={() => void access.refetch()} />
      ) : (
        <>
          <Chips items={access.data.permissions} empty="Nothing at all" />
          <p className={parts['soft']}>
            By way of {access.data.roles.length === 0 ? 'no role' : access.data.roles.join(', ')}, at version{' '}
            <code>{access.data.pv}</code>
          </p>
        </>
      )}
    </Section>
  );
}

function Actions({ user }: { user: User }) {
  const change = useChange();
  const where = usePaths();
  const [, navigate] = useLocation();
  const { state } = usePermcast();
  const self = state.status === 'signed_in' && state.identity.user === user.id;
  const status = (next: User['status'], title: string) =>
    change.mutate({ title, method: 'PATCH', path: where.user(user.id), json: { status: next } });
  return (
    <>
      {user.status === 'active' ? (
        <ConfirmButton
          label="Suspend"
          title={`Suspend ${user.id}?`}
          confirm="Suspend"
          disabled={self}
          onConfirm={() => status('suspended', `${user.id} is suspended`)}
        >
          All of {user.name || user.id}'s sessions end at once, on every replica. The grants are kept.
        </ConfirmButton>
      ) : (
        <Button variant="light" onClick={() => status('active', `${user.id} is active again`)}>
          Make active
        </Button>
      )}
      <ConfirmButton
        label="Delete"
        title={`Delete ${user.id}?`}
        confirm="Delete user"
        subtle
        disabled={self}
        onConfirm={() =>
          change.mutate(
            { title: `${user.id} is deleted`, method: 'DELETE', path: where.user(user.id) },
            { onSuccess: () => navigate('/users') },
          )
        }
      >
        The user, all grants and all sessions go. This cannot be taken back.
      </ConfirmButton>
    </>
  );
}

function Profile({ user }: { user: User }) {
  const change = useChange();
  const where = usePaths();
  const form = useForm({
    initialValues: { name: user.name, email: user.email ?? '' },
    validate: { email: (email) => (email === '' || email.includes('@') ? null : 'No email address') },
  });
  const submit = form.onSubmit(({ name, email }) =>
    change.mutate(
      {
        title: `${user.id}'s profile was edited`,
        method: 'PATCH',
        path: where.user(user.id),
        json: { name, email: email === '' ? null : email },
      },
      { onSuccess: () => form.resetDirty() },
    ),
  );
  return (
    <Section title="Profile">
      <form onSubmit={submit} noValidate>
        <TextInput label="Name" {...form.getInputProps('name')} />
        <TextInput label="Email" mt="sm" type="email" {...form.getInputProps('email')} />
        <Group justify="flex-end" mt="md">
          <Button type="submit" variant="default" disabled={!form.isDirty()} loading={change.isPending}>
            Save
          </Button>
        </Group>
      </form>
    </Section>
  );
}
