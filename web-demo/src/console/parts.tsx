/** Pieces that the console's screens share. */

import { Alert, Button, Group, Modal, Skeleton, Text } from '@mantine/core';
import { useState, type ReactNode } from 'react';
import { messageOf } from '../lib/context.tsx';
import parts from '../lib/parts.module.css';

export function PageHead(props: { title: ReactNode; about?: ReactNode; children?: ReactNode }) {
  return (
    <div className={parts['page-head']}>
      <div>
        <h1>{props.title}</h1>
        {props.about !== undefined && <p>{props.about}</p>}
      </div>
      {props.children !== undefined && <div className={parts['actions']}>{props.children}</div>}
    </div>
  );
}

export function Section(props: { title: string; about?: ReactNode; action?: ReactNode; children: ReactNode }) {
  return (
    <section className={parts['section']}>
      <header>
        <h2>{props.title}</h2>
        {props.action}
        {props.about !== undefined && <p>{props.about}</p>}
      </header>
      {props.children}
    </section>
  );
}

export function Chip({ children, tone }: { children: ReactNode; tone?: 'go' | 'pulse' }) {
  return (
    <span className={parts['chip']} data-tone={tone}>
      {children}
    </span>
  );
}

export function Chips({ items, empty = 'none' }: { items: readonly string[]; empty?: string }) {
  if (items.length === 0) return <span className={parts['soft']}>{empty}</span>;
  return (
    <span className={parts['chips']}>
      {items.map((item) => (
        <Chip key={item}>{item}</Chip>
      ))}
    </span>
  );
}

/** What a list shows before it has come, and where it does not come. */
export function Pending({ error, retry }: { error: unknown; retry: () => void }) {
  if (error === null || error === undefined) {
    return (
      <div className={parts['stack']} aria-busy="true" aria-label="Loading">
        {[0, 1, 2, 3].map((line) => (
          <Skeleton key={line} height={42} radius="md" />
        ))}
      </div>
    );
  }
  const { title, detail } = messageOf(error);
  return (
    <Alert color="red" variant="light" title={title} role="alert">
      {detail}
      <Group mt="sm">
        <Button size="xs" variant="default" onClick={retry}>
          Try again
        </Button>
      </Group>
    </Alert>
  );
}

/** Forward and back through a list that only knows its next page. */
export function usePages(): { cursor: string | null; pager: (next: string | null, shown: number) => ReactNode } {
  const [trail, setTrail] = useState<readonly (string | null)[]>([null]);
  return {
    cursor: trail.at(-1) ?? null,
    pager: (next, shown) =>
      trail.length === 1 && next === null ? null : (
        <div className={parts['pager']}>
          <span>
            Page {trail.length}, {shown} shown
          </span>
          <Group gap="xs">
            <Button size="xs" variant="default" disabled={trail.length === 1} onClick={() => setTrail(trail.slice(0, -1))}>
              Previous
            </Button>
            <Button size="xs" variant="default" disabled={next === null} onClick={() => setTrail([...trail, next])}>
              Next
            </Button>
          </Group>
        </div>
      ),
  };
}

/** Asks before what cannot be taken back. */
export function ConfirmButton(props: {
  label: string;
  title: string;
  children: ReactNode;
  confirm: string;
  onConfirm: () => void;
  size?: 'xs' | 'sm';
  subtle?: boolean;
  disabled?: boolean;
}) {
  const [asking, setAsking] = useState(false);
  return (
    <>
      <Button
        color="red"
        variant={props.subtle ? 'subtle' : 'light'}
        size={props.size ?? 'sm'}
        disabled={props.disabled ?? false}
        onClick={() => setAsking(true)}
      >
        {props.label}
      </Button>
      <Modal opened={asking} onClose={() => setAsking(false)} title={<strong>{props.title}</strong>}>
        <Text size="sm">{props.children}</Text>
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={() => setAsking(false)} data-autofocus>
            Keep
          </Button>
          <Button
            color="red"
            onClick={() => {
              setAsking(false);
              props.onConfirm();
            }}
          >
            {props.confirm}
          </Button>
        </Group>
      </Modal>
    </>
  );
}
