import { Alert, Button, PasswordInput, TextInput, UnstyledButton } from '@mantine/core';
import { useForm } from '@mantine/form';
import type { SignedOutReason } from '@permcast/client';
import { usePermcast } from '@permcast/client/react';
import { IconArrowRight, IconArrowsSplit2 } from '@tabler/icons-react';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { Line } from '../journeys/journey-line.tsx';
import type { Station } from '../journeys/journeys.ts';
import { messageOf } from '../lib/context.tsx';
import { replicasOf, type Demo, type DemoUser } from '../lib/demo.ts';
import { initials } from '../lib/format.ts';
import { Mark } from '../shell/brand.tsx';
import classes from './welcome.module.css';

const REASONS: Partial<Record<SignedOutReason, string>> = {
  expired: 'Your session has ended. Sign in again to go on.',
  suspended: 'This account has been suspended.',
  deleted: 'This account does not exist any more.',
  refresh_reuse: 'Your session was ended because its token was used in two places. If that was not you, change your password.',
  keys_revoked: 'Every session was ended by an operator. Sign in again to go on.',
};

/** The way that a change takes, to look at while nobody is signed in. */
const WAY: Station[] = (
  [
    ['commit', 'Committed'],
    ['replica', 'Replicas'],
    ['push', 'Tabs told'],
    ['token', 'New token'],
  ] as const
).map(([kind, label]) => ({ key: kind, kind, label, ms: 0, detail: label }));

export function Welcome({ demo }: { demo: Demo | null }) {
  const { client, state } = usePermcast();
  const [, navigate] = useLocation();
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState<string | null>(null);

  const enter = async (username: string, password: string, path?: string) => {
    setBusy(username + (path ?? ''));
    setError(null);
    try {
      if (path !== undefined) navigate(path);
      await client.signIn({ username, password });
    } catch (caught) {
      setError(caught);
    } finally {
      setBusy(null);
    }
  };

  const reason = state.status === 'signed_out' ? REASONS[state.reason] : undefined;
  const admin = demo?.users[0];
  const here = demo === null ? null : replicasOf(demo).here;
  return (
    <div className={classes['page']}>
      <section className={classes['story']}>
        <div className={classes['brand']}>
          <Mark size={34} />
          permcast
        </div>
        <h1>
          <span>Change a permission.</span> <span>Every tab knows.</span>
        </h1>
        <p>
          An administrator takes a role away, and within milliseconds every replica decides by it, every token that
          carried it is refused, and every open tab has a new one.
        </p>
        <div className={classes['way']} aria-hidden="true">
          <Line stations={WAY} figures={false} />
        </div>
      </section>
      <section className={classes['door']}>
        <div className={`card ${classes['card']}`}>
          <h2>{demo === null ? 'Sign in' : 'Come in as'}</h2>
          {here !== null && <p className={classes['here']}>This page is served by replica {here}.</p>}
          {reason !== undefined && error === null && (
            <Alert color="ember" variant="light" mb="md">
              {reason}
            </Alert>
          )}
          {error !== null && (
            <Alert color="red" variant="light" mb="md" title={messageOf(error).title} role="alert">
              {messageOf(error).detail}
            </Alert>
          )}
          {demo === null ? (
            <SignInForm enter={enter} busy={busy !== null} />
          ) : (
            <>
              {admin !== undefined && (
                <UnstyledButton
                  className={classes['stage'] ?? ''}
                  disabled={busy !== null}
                  onClick={() => void enter(admin.id, demo.password, '/stage')}
                >
                  <IconArrowsSplit2 size={22} stroke={1.6} aria-hidden="true" />
                  <span>
                    <strong>Watch a change travel</strong>
                    <small>Administrator and user side by side in one window</small>
                  </span>
                  <IconArrowRight size={18} aria-hidden="true" />
                </UnstyledButton>
              )}
              <ul className={classes['users']}>
                {demo.users.map((user) => (
                  <UserCard
                    key={user.id}
                    user={user}
                    busy={busy === user.id}
                    disabled={busy !== null}
                    enter={() => void enter(user.id, demo.password)}
                  />
                ))}
              </ul>
            </>
          )}
        </div>
      </section>
    </div>
  );
}

function UserCard(props: { user: DemoUser; busy: boolean; disabled: boolean; enter: () => void }) {
  const { user } = props;
  return (
    <li>
      <UnstyledButton
        className={classes['user'] ?? ''}
        onClick={props.enter}
        disabled={props.disabled}
        data-busy={props.busy || undefined}
        data-testid={`sign-in-${user.id}`}
      >
        <span className={classes['avatar']}>{initials(user.name)}</span>
        <span className={classes['who']}>
          <strong>{user.name}</strong>
          <small>{user.note}</small>
        </span>
      </UnstyledButton>
    </li>
  );
}

function SignInForm(props: { enter: (username: string, password: string) => Promise<void>; busy: boolean }) {
  const form = useForm({
    initialValues: { username: '', password: '' },
    validate: {
      username: (value) => (value.trim() === '' ? 'Your user id or email' : null),
      password: (value) => (value === '' ? 'Your password' : null),
    },
  });
  return (
    <form onSubmit={form.onSubmit(({ username, password }) => void props.enter(username.trim(), password))} noValidate>
      <TextInput label="User id or email" autoComplete="username" autoFocus {...form.getInputProps('username')} />
      <PasswordInput
        label="Password"
        mt="md"
        autoComplete="current-password"
        {...form.getInputProps('password')}
      />
      <Button type="submit" fullWidth mt="lg" size="md" loading={props.busy}>
        Sign in
      </Button>
    </form>
  );
}
