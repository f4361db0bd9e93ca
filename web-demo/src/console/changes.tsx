import { Button, Center, Table, UnstyledButton } from '@mantine/core';
import { seqOf, type PermcastClient } from '@permcast/client';
import { usePermcast, usePermcastClient } from '@permcast/client/react';
import { useInfiniteQuery, useQuery } from '@tanstack/react-query';
import { IconHistory } from '@tabler/icons-react';
import { Fragment, useState } from 'react';
import { JourneyLine } from '../journeys/journey-line.tsx';
import { receiptOf, type Change, type Page } from '../lib/api.ts';
import { useJourneyList, usePaths } from '../lib/context.tsx';
import { Empty } from '../lib/empty.tsx';
import { ago, clock, dateTime, plural } from '../lib/format.ts';
import parts from '../lib/parts.module.css';
import classes from './changes.module.css';
import { Chip, PageHead, Pending } from './parts.tsx';

/** How many positions of the log one look takes in; a tenant sees only its own among them. */
const SPAN = 60;

/** The log, newest first; the change feed has it read again whenever it grows. */
export function Changes() {
  const client = usePermcastClient();
  const where = usePaths();
  const [open, setOpen] = useState<number | null>(null);
  const log = useInfiniteQuery({
    queryKey: ['changes', where.changes],
    initialPageParam: null as number | null,
    queryFn: async ({ pageParam, signal }) => {
      const head = pageParam ?? (await headOf(client, signal));
      const after = Math.max(0, head - SPAN);
      const query = new URLSearchParams({ after: String(after), limit: String(SPAN) });
      const page = await client.call<Page<Change>>(`${where.changes}?${query}`, { signal });
      return { after, items: page.items.filter((change) => pageParam === null || change.seq <= pageParam).reverse() };
    },
    getNextPageParam: (page) => (page.after === 0 ? undefined : page.after),
  });
  const changes = log.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <>
      <PageHead title="Changes" about="The log that the database itself writes, whichever way a permission was changed" />
      {log.data === undefined ? (
        <Pending error={log.error} retry={() => void log.refetch()} />
      ) : changes.length === 0 ? (
        <Empty icon={IconHistory} title="Nothing has changed lately">
          The next change of this tenant appears here the moment it is committed.
        </Empty>
      ) : (
        <div className={parts['table-card']}>
          <Table verticalSpacing="xs" horizontalSpacing="md" highlightOnHover>
            <Table.Thead>
              <Table.Tr>
                <Table.Th>No.</Table.Th>
                <Table.Th>When</Table.Th>
                <Table.Th>What</Table.Th>
                <Table.Th className={parts['wide-only'] ?? ''}>By</Table.Th>
                <Table.Th className={parts['wide-only'] ?? ''}>Kind</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {changes.map((change) => (
                <Fragment key={change.seq}>
                  <Row
                    change={change}
                    open={open === change.seq}
                    toggle={() => setOpen(open === change.seq ? null : change.seq)}
                  />
                  {open === change.seq && (
                    <Table.Tr>
                      <Table.Td colSpan={5} className={classes['receipt'] ?? ''}>
                        <ReceiptOf change={change} />
                      </Table.Td>
                    </Table.Tr>
                  )}
                </Fragment>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
      {log.hasNextPage && (
        <Center mt="md">
          <Button variant="default" loading={log.isFetchingNextPage} onClick={() => void log.fetchNextPage()}>
            Earlier changes
          </Button>
        </Center>
      )}
    </>
  );
}

function Row({ change, open, toggle }: { change: Change; open: boolean; toggle: () => void }) {
  return (
    <Table.Tr className={classes['row'] ?? ''}>
      <Table.Td>
        <UnstyledButton
          className={classes['number'] ?? ''}
          aria-expanded={open}
          aria-label={`Receipt of change ${change.seq}`}
          onClick={toggle}
        >
          {change.seq}
        </UnstyledButton>
      </Table.Td>
      <Table.Td title={dateTime(change.at)}>
        <span className={classes['when']}>{clock(change.at)}</span>
        <div className={parts['soft']}>{ago(change.at)}</div>
      </Table.Td>
      <Table.Td>{change.summary || `${change.kind} ${change.target}`}</Table.Td>
      <Table.Td className={parts['wide-only'] ?? ''}>
        <Chip {...(change.actor === 'sql' ? { tone: 'pulse' as const } : {})}>{change.actor.replace(/^default\//, '')}</Chip>
      </Table.Td>
      <Table.Td className={parts['wide-only'] ?? ''}>{change.kind}</Table.Td>
    </Table.Tr>
  );
}

function ReceiptOf({ change }: { change: Change }) {
  const client = usePermcastClient();
  const where = usePaths();
  const { state } = usePermcast();
  const journeys = useJourneyList();
  const path = where.propagation(change.seq);
  const receipt = useQuery({ queryKey: [path], queryFn: () => receiptOf(client, path) });
  if (receipt.data === undefined) return <Pending error={receipt.error} retry={() => void receipt.refetch()} />;
  const epoch = state.status === 'signed_in' ? state.pv.split('.')[0] : '';
  const version = `${epoch}.${change.seq}`;
  const traces = journeys.find((journey) => journey.version === version)?.traces ?? {};
  const { affected, notified, refreshed } = receipt.data.connections;
  return (
    <>
      <JourneyLine
        journey={{ version, title: change.summary, actor: change.actor, seenAt: 0, traces, receipt: receipt.data }}
      />
      <p className={parts['soft']}>
        {plural(affected, 'connected tab')} touched, {notified} told, {refreshed} refreshed.
      </p>
    </>
  );
}

async function headOf(client: PermcastClient, signal: AbortSignal): Promise<number> {
  const { pv } = await client.call<{ pv: string }>('/v1/me', { signal });
  return seqOf(pv) ?? 0;
}
