import { Button, Group, Modal, PasswordInput, Select, Table, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { IconPlus, IconUsers } from '@tabler/icons-react';
import { useState } from 'react';
import { Link, useLocation } from 'wouter';
import type { User } from '../lib/api.ts';
import { useChange, usePaths } from '../lib/context.tsx';
import { Empty } from '../lib/empty.tsx';
import parts from '../lib/parts.module.css';
import { Chip, Chips, PageHead, Pending, usePages } from './parts.tsx';
import { useAccess, useUsers } from './queries.ts';

const PAGE = 25;

export function Users() {
  const { cursor, pager } = usePages();
  const users = useUsers(cursor, PAGE);
  const [making, setMaking] = useState(false);
  return (
    <>
      <PageHead title="Users" about="People and service accounts of this tenant">
        <Button leftSection={<IconPlus size={17} />} onClick={() => setMaking(true)}>
          New user
        </Button>
      </PageHead>
      {users.data === undefined ? (
        <Pending error={users.error} retry={() => void users.refetch()} />
      ) : users.data.items.length === 0 ? (
        <Empty icon={IconUsers} title="Nobody here yet">
          Make the first user, then give a role.
        </Empty>
      ) : (
        <>
          <div className={parts['table-card']}>
            <Table verticalSpacing="sm" horizontalSpacing="md" highlightOnHover>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>User</Table.Th>
                  <Table.Th>Roles</Table.Th>
                  <Table.Th className={parts['wide-only'] ?? ''}>Email</Table.Th>
                  <Table.Th className={parts['wide-only'] ?? ''}>Status</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {users.data.items.map((user) => (
                  <Row key={user.id} user={user} />
                ))}
              </Table.Tbody>
            </Table>
          </div>
          {pager(users.data.next_cursor, users.data.items.length)}
        </>
      )}
      <NewUser opened={making} onClose={() => setMaking(false)} />
    </>
  );
}

function Row({ user }: { user: User }) {
  const access = useAccess(user.id);
  const direct = access.data?.grants?.flatMap((grant) => grant.role ?? []) ?? access.data?.roles;
  return (
    <Table.Tr>
      <Table.Td>
        <Link href={`/users/${encodeURIComponent(user.id)}`} className={parts['row-link'] ?? ''}>
          {user.name || user.id}
        </Link>
        <div className={parts['soft']}>
          <code>{user.id}</code>
          {user.kind === 'service' && ' · service'}
        </div>
      </Table.Td>
      <Table.Td>{direct === undefined ? '…' : <Chips items={direct} />}</Table.Td>
      <Table.Td className={parts['wide-only'] ?? ''}>{user.email ?? <span className={parts['soft']}>none</span>}</Table.Td>
      <Table.Td className={parts['wide-only'] ?? ''}>
        <Chip tone={user.status === 'active' ? 'go' : 'pulse'}>{user.status}</Chip>
      </Table.Td>
    </Table.Tr>
  );
}

const USER_ID = /^[A-Za-z0-9_][A-Za-z0-9._@:|+-]{0,127}$/;

function NewUser({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const change = useChange();
  const where = usePaths();
  const [, navigate] = useLocation();
  const form = useForm({
    initialValues: { id: '', name: '', email: '', kind: 'person', password: '' },
    validate: {
      id: (id) => (USER_ID.test(id) ? null : 'Letters, digits and . _ @ : | + -, beginning with a letter, digit or _'),
      email: (email) => (email === '' || email.includes('@') ? null : 'No email address'),
    },
  });
  const close = () => {
    form.reset();
    onClose();
  };
  const submit = form.onSubmit(({ id, name, email, kind, password }) =>
    change.mutate(
      {
        title: `${id} is a new user`,
        method: 'POST',
        path: where.users,
        json: { id, name, kind, ...(email === '' ? {} : { email }), ...(password === '' ? {} : { password }) },
      },
      {
        onSuccess: () => {
          close();
          navigate(`/users/${encodeURIComponent(id)}`);
        },
      },
    ),
  );
  return (
    <Modal opened={opened} onClose={close} title={<strong>New user</strong>}>
      <form onSubmit={submit} noValidate>
        <div className={parts['stack']}>
          <TextInput label="User id" description="How tokens name this user; it stays" data-autofocus {...form.getInputProps('id')} />
          <TextInput label="Name" {...form.getInputProps('name')} />
          <TextInput label="Email" type="email" autoComplete="off" {...form.getInputProps('email')} />
          <Select
            label="Kind"
            allowDeselect={false}
            data={[
              { value: 'person', label: 'Person' },
              { value: 'service', label: 'Service account' },
            ]}
            {...form.getInputProps('kind')}
          />
          <PasswordInput label="Password" autoComplete="new-password" {...form.getInputProps('password')} />
        </div>
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={change.isPending}>
            Make user
          </Button>
        </Group>
      </form>
    </Modal>
  );
}
