import { Button, Group, NumberInput, Switch, Table } from '@mantine/core';
import { usePermcastClient } from '@permcast/client/react';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Page } from '../lib/api.ts';
import { useChange } from '../lib/context.tsx';
import { ago } from '../lib/format.ts';
import parts from '../lib/parts.module.css';
import { Chip, ConfirmButton, PageHead, Pending, Section } from './parts.tsx';

interface Replica {
  id: string;
  seen_at?: string;
  applied?: number | string | null;
  connections?: number | null;
}

interface Lockdown {
  enabled: boolean;
}

/** For operators: the replicas, the keys, and the emergency brake. */
export function System() {
  return (
    <>
      <PageHead title="System" about="Replicas, signing keys and the lockdown" />
      <div className={parts['columns']}>
        <Replicas />
        <div className={parts['stack']}>
          <LockdownSwitch />
          <Keys />
        </div>
      </div>
    </>
  );
}

function Replicas() {
  const client = usePermcastClient();
  const replicas = useQuery({
    queryKey: ['replicas'],
    queryFn: ({ signal }) => client.call<Page<Replica>>('/v1/replicas', { signal }),
    refetchInterval: 3_000,
  });
  return (
    <Section title="Replicas" about="As they stand in the database; a lost broker does not hide one">
      {replicas.data === undefined ? (
        <Pending error={replicas.error} retry={() => void replicas.refetch()} />
      ) : (
        <Table verticalSpacing="xs">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Replica</Table.Th>
              <Table.Th>Applied</Table.Th>
              <Table.Th>Tabs</Table.Th>
              <Table.Th className={parts['wide-only'] ?? ''}>Seen</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {replicas.data.items.map((replica) => (
              <Table.Tr key={replica.id}>
                <Table.Td>
                  <Chip tone="go">{replica.id}</Chip>
                </Table.Td>
                <Table.Td>
                  <code>{replica.applied ?? '?'}</code>
                </Table.Td>
                <Table.Td>{replica.connections ?? '?'}</Table.Td>
                <Table.Td className={parts['wide-only'] ?? ''}>
                  {replica.seen_at === undefined ? '?' : ago(replica.seen_at)}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </Section>
  );
}

function LockdownSwitch() {
  const client = usePermcastClient();
  const change = useChange();
  const [seconds, setSeconds] = useState(30);
  const lockdown = useQuery({
    queryKey: ['lockdown'],
    queryFn: ({ signal }) => client.call<Lockdown>('/v1/lockdown', { signal }),
  });
  const put = (enabled: boolean) =>
    change.mutate({
      title: enabled ? 'Lockdown' : 'The lockdown is lifted',
      method: 'PUT',
      path: '/v1/lockdown',
      json: enabled ? { enabled, retry_after_s: seconds } : { enabled },
    });
  return (
    <Section title="Lockdown" about="Everybody but operators is refused, on every replica, until it is lifted">
      {lockdown.data === undefined ? (
        <Pending error={lockdown.error} retry={() => void lockdown.refetch()} />
      ) : lockdown.data.enabled ? (
        <Group justify="space-between">
          <Chip tone="pulse">in force</Chip>
          <Switch checked onChange={() => put(false)} label="Lockdown" labelPosition="left" />
        </Group>
      ) : (
        <Group align="flex-end" justify="space-between">
          <NumberInput
            label="Try again after (seconds)"
            w={220}
            min={1}
            max={3_600}
            value={seconds}
            onChange={(value) => setSeconds(Number(value) || 30)}
          />
          <ConfirmButton label="Lock down" title="Lock everybody out?" confirm="Lock down" onConfirm={() => put(true)}>
            All but operators get an error at every call until you lift it. Nobody is signed out.
          </ConfirmButton>
        </Group>
      )}
    </Section>
  );
}

function Keys() {
  const change = useChange();
  const rotate = (revoke: boolean) =>
    change.mutate({
      title: revoke ? 'All older keys are revoked' : 'The signing key is rotated',
      method: 'POST',
      path: '/v1/keys/rotate',
      json: { revoke, sessions: false },
    });
  return (
    <Section title="Signing keys" about="Rotation is gentle; revocation makes every access token stale at once">
      <Group>
        <Button variant="default" loading={change.isPending} onClick={() => rotate(false)}>
          Rotate
        </Button>
        <ConfirmButton
          label="Revoke older keys"
          title="Revoke all older keys?"
          confirm="Revoke"
          onConfirm={() => rotate(true)}
        >
          Every access token issued before is refused everywhere, and every client fetches a new one. Nobody is signed
          out.
        </ConfirmButton>
      </Group>
    </Section>
  );
}
