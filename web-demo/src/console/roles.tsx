import { Button, Group, Modal, MultiSelect, Table, TagsInput, TextInput } from '@mantine/core';
import { useForm } from '@mantine/form';
import { isGrant } from '@permcast/client';
import { IconPlus, IconShieldHalf } from '@tabler/icons-react';
import { useState } from 'react';
import { Link } from 'wouter';
import { useChange, usePaths } from '../lib/context.tsx';
import { Empty } from '../lib/empty.tsx';
import parts from '../lib/parts.module.css';
import { Chips, PageHead, Pending, usePages } from './parts.tsx';
import { useAllRoles, useRolePage } from './queries.ts';

const PAGE = 25;

export function Roles() {
  const { cursor, pager } = usePages();
  const roles = useRolePage(cursor, PAGE);
  const [making, setMaking] = useState(false);
  return (
    <>
      <PageHead title="Roles" about="Named sets of permissions; a role may include others">
        <Button leftSection={<IconPlus size={17} />} onClick={() => setMaking(true)}>
          New role
        </Button>
      </PageHead>
      {roles.data === undefined ? (
        <Pending error={roles.error} retry={() => void roles.refetch()} />
      ) : roles.data.items.length === 0 ? (
        <Empty icon={IconShieldHalf} title="No roles yet">
          Name a set of permissions, then give it to users.
        </Empty>
      ) : (
        <>
          <div className={parts['table-card']}>
            <Table verticalSpacing="sm" horizontalSpacing="md" highlightOnHover>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>Role</Table.Th>
                  <Table.Th>Permissions of its own</Table.Th>
                  <Table.Th className={parts['wide-only'] ?? ''}>Includes</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {roles.data.items.map((role) => (
                  <Table.Tr key={role.name}>
                    <Table.Td>
                      <Link href={`/roles/${encodeURIComponent(role.name)}`} className={parts['row-link'] ?? ''}>
                        {role.name}
                      </Link>
                      <div className={parts['soft']}>{role.description}</div>
                    </Table.Td>
                    <Table.Td>
                      <Chips items={role.permissions} />
                    </Table.Td>
                    <Table.Td className={parts['wide-only'] ?? ''}>
                      <Chips items={role.includes} />
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </div>
          {pager(roles.data.next_cursor, roles.data.items.length)}
        </>
      )}
      <NewRole opened={making} onClose={() => setMaking(false)} />
    </>
  );
}

const ROLE_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;

function NewRole({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const change = useChange();
  const where = usePaths();
  const others = useAllRoles();
  const form = useForm({
    initialValues: { name: '', description: '', permissions: [] as string[], includes: [] as string[] },
    validate: {
      name: (name) => (ROLE_NAME.test(name) ? null : 'Small letters, digits and . _ -, beginning with a letter or digit'),
      permissions: (list) => {
        const bad = list.find((permission) => !isGrant(permission));
        return bad === undefined ? null : `${bad} is no permission`;
      },
    },
  });
  const close = () => {
    form.reset();
    onClose();
  };
  const submit = form.onSubmit((role) =>
    change.mutate(
      { title: `${role.name} is a new role`, method: 'POST', path: where.roles, json: role },
      { onSuccess: close },
    ),
  );
  return (
    <Modal opened={opened} onClose={close} title={<strong>New role</strong>}>
      <form onSubmit={submit} noValidate>
        <div className={parts['stack']}>
          <TextInput label="Name" autoCapitalize="none" data-autofocus {...form.getInputProps('name')} />
          <TextInput label="Description" {...form.getInputProps('description')} />
          <TagsInput
            label="Permissions"
            description="Enter after each; any segment may be *"
            placeholder="invoices:read"
            {...form.getInputProps('permissions')}
          />
          <MultiSelect
            label="Includes"
            data={(others.data ?? []).map((role) => role.name)}
            {...form.getInputProps('includes')}
          />
        </div>
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={change.isPending}>
            Make role
          </Button>
        </Group>
      </form>
    </Modal>
  );
}
