import { Loader, Select } from '@mantine/core';
import { usePermcast, PermcastProvider } from '@permcast/client/react';
import { useState } from 'react';
import { RoleSwitch } from '../console/grants.tsx';
import { Pending } from '../console/parts.tsx';
import { useAccess, useAllRoles } from '../console/queries.ts';
import { Billing } from '../invoices/billing.tsx';
import { Invoices } from '../invoices/invoices.tsx';
import { Reports } from '../invoices/reports.tsx';
import { JourneyLine } from '../journeys/journey-line.tsx';
import { useJourneyList, useTraceFeed } from '../lib/context.tsx';
import { replicasOf, type Demo } from '../lib/demo.ts';
import parts from '../lib/parts.module.css';
import { Connection } from '../shell/connection.tsx';
import { Guarded } from '../shell/guarded.tsx';
import { ENTRIES } from '../shell/navigation.ts';
import { useSecondClient } from './second-client.ts';
import classes from './stage.module.css';

/** Administrator and user in one window, at two replicas, and the way of each change between them. */
export function Stage({ demo }: { demo: Demo }) {
  const { state } = usePermcast();
  const self = state.status === 'signed_in' ? state.identity.user : '';
  const others = demo.users.filter((user) => user.id !== self);
  const [user, setUser] = useState(others[0]?.id ?? '');
  const { here } = replicasOf(demo);
  return (
    <div className={classes['stage']}>
      <section className={classes['admin']} aria-label="Administrator">
        <header className={classes['side-head']}>
          <div>
            <h2>You give and take</h2>
            <span className={parts['soft']}>{here === null ? 'as administrator' : `as administrator, at replica ${here}`}</span>
          </div>
        </header>
        <Select
          label="User"
          allowDeselect={false}
          data={others.map(({ id, name }) => ({ value: id, label: name }))}
          value={user}
          onChange={(value) => value !== null && setUser(value)}
          mb="sm"
        />
        <RolesOf user={user} />
      </section>
      <Way />
      <section className={classes['user']} aria-label="User">
        <UserSide key={user} demo={demo} user={user} />
      </section>
    </div>
  );
}

function RolesOf({ user }: { user: string }) {
  const access = useAccess(user);
  const roles = useAllRoles();
  if (access.data === undefined || roles.data === undefined) {
    return (
      <Pending
        error={access.error ?? roles.error}
        retry={() => {
          void access.refetch();
          void roles.refetch();
        }}
      />
    );
  }
  const held = new Set(access.data.grants?.flatMap((grant) => grant.role ?? []) ?? access.data.roles);
  return (
    <div>
      {roles.data.map((role) => (
        <div key={role.name} className={parts['row']}>
          <div className={parts['grow']}>
            <strong>{role.name}</strong>
            <small>{role.description || role.permissions.join(', ')}</small>
          </div>
          <RoleSwitch user={user} role={role.name} held={held.has(role.name)} />
        </div>
      ))}
    </div>
  );
}

function Way() {
  const [latest, ...before] = useJourneyList();
  return (
    <section className={classes['way']} aria-label="Changes travelling" data-testid="strip" aria-live="polite">
      {latest === undefined ? (
        <p className={classes['idle']}>Turn one of the switches, and watch the change go.</p>
      ) : (
        <JourneyLine key={latest.version} journey={latest} large />
      )}
      {before.slice(0, 1).map((journey) => (
        <div key={journey.version} className={classes['before']}>
          <JourneyLine journey={journey} />
        </div>
      ))}
    </section>
  );
}

function UserSide({ demo, user }: { demo: Demo; user: string }) {
  const second = useSecondClient(demo, user);
  const name = demo.users.find(({ id }) => id === user)?.name ?? user;
  switch (second.kind) {
    case 'entering':
      return <Loader type="dots" m="xl" aria-label="Signing in" />;
    case 'failed':
      return <Pending error={second.error} retry={() => location.reload()} />;
    case 'here':
      return (
        <PermcastProvider client={second.client}>
          <Window name={name} replica={second.replica} />
        </PermcastProvider>
      );
  }
}

/** The user's app, as it would be in a window of its own. */
function Window({ name, replica }: { name: string; replica: string | null }) {
  useTraceFeed();
  const { client, state } = usePermcast();
  const [path, setPath] = useState('/invoices');
  if (state.status !== 'signed_in') {
    return <p className={classes['idle']}>{name} has been signed out.</p>;
  }
  const entries = ENTRIES.filter((entry) => entry.group === 'Ledger' && client.can(entry.permission));
  const shown = entries.find((entry) => entry.path === path) ?? entries[0];
  return (
    <>
      <header className={classes['side-head']}>
        <div>
          <h2>{name} sees</h2>
          <span className={parts['soft']}>{replica === null ? 'in a session of its own' : `at replica ${replica}`}</span>
        </div>
        <Connection state={state} />
      </header>
      <nav className={classes['tabs']} aria-label={`${name}'s menu`}>
        {entries.map((entry) => (
          <button
            key={entry.path}
            type="button"
            className={classes['tab']}
            aria-current={entry === shown ? 'page' : undefined}
            onClick={() => setPath(entry.path)}
          >
            <entry.icon size={17} stroke={1.7} aria-hidden="true" />
            {entry.label}
          </button>
        ))}
      </nav>
      <div className={classes['app']}>
        <Guarded permission={shown?.permission ?? 'invoices:read'}>
          {shown?.path === '/billing' ? <Billing /> : shown?.path === '/reports' ? <Reports /> : <Invoices />}
        </Guarded>
      </div>
    </>
  );
}
