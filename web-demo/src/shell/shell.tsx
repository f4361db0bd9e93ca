import { ActionIcon, Menu, useMantineColorScheme, UnstyledButton } from '@mantine/core';
import { usePermcast } from '@permcast/client/react';
import { IconDeviceDesktop, IconLogout, IconMoon, IconSun } from '@tabler/icons-react';
import { useEffect, useRef } from 'react';
import { Link, Redirect, Route, Switch, useLocation } from 'wouter';
import { Changes } from '../console/changes.tsx';
import { RolePage } from '../console/role.tsx';
import { Roles } from '../console/roles.tsx';
import { System } from '../console/system.tsx';
import { UserPage } from '../console/user.tsx';
import { Users } from '../console/users.tsx';
import { Billing } from '../invoices/billing.tsx';
import { Invoices } from '../invoices/invoices.tsx';
import { Reports } from '../invoices/reports.tsx';
import { Strip } from '../journeys/strip.tsx';
import type { Demo } from '../lib/demo.ts';
import { initials } from '../lib/format.ts';
import { useChangeFeed } from '../lib/use-change-feed.ts';
import { Stage } from '../stage/stage.tsx';
import { Mark } from './brand.tsx';
import { Connection } from './connection.tsx';
import { Guarded } from './guarded.tsx';
import { ENTRIES, type Entry } from './navigation.ts';
import classes from './shell.module.css';

export function Shell({ demo }: { demo: Demo | null }) {
  const { client, state } = usePermcast();
  const [location] = useLocation();
  useChangeFeed();
  if (state.status !== 'signed_in') return null;
  const entries = ENTRIES.filter((entry) => client.can(entry.permission) && (!entry.demo || demo !== null));
  const home = entries[0]?.path ?? '/invoices';
  const name = demo?.users.find((user) => user.id === state.identity.user)?.name ?? state.identity.user;
  return (
    <div className={classes['shell']}>
      <a className={classes['skip']} href="#content" onClick={skipToContent}>
        Skip to the content
      </a>
      <header className={classes['header']}>
        <Link href={home} className={classes['brand'] ?? ''} aria-label="permcast, home">
          <Mark />
          <span>permcast</span>
        </Link>
        <div className={classes['spacer']} />
        <Connection state={state} />
        <UserMenu name={name} user={state.identity.user} tenant={state.identity.tenant} roles={state.roles} />
      </header>
      <nav className={classes['nav']} aria-label="Main">
        {(['Ledger', 'Console'] as const).map((group) => {
          const members = entries.filter((entry) => entry.group === group);
          if (members.length === 0) return null;
          return (
            <div key={group} className={classes['group']}>
              <div className={classes['group-name']}>{group}</div>
              {members.map((entry) => (
                <NavLink key={entry.path} entry={entry} active={location.startsWith(entry.path)} />
              ))}
            </div>
          );
        })}
      </nav>
      <main className={classes['main']} id="content" tabIndex={-1}>
        <Switch>
          <Route path="/invoices">
            <Guarded permission="invoices:read"><Invoices /></Guarded>
          </Route>
          <Route path="/billing">
            <Guarded permission="billing:read"><Billing /></Guarded>
          </Route>
          <Route path="/reports">
            <Guarded permission="reports:read"><Reports /></Guarded>
          </Route>
          <Route path="/users">
            <Guarded permission="permcast:admin"><Users /></Guarded>
          </Route>
          <Route path="/users/:user">
            {({ user }) => (
              <Guarded permission="permcast:admin"><UserPage key={user} id={decodeURIComponent(user)} /></Guarded>
            )}
          </Route>
          <Route path="/roles">
            <Guarded permission="permcast:admin"><Roles /></Guarded>
          </Route>
          <Route path="/roles/:role">
            {({ role }) => (
              <Guarded permission="permcast:admin"><RolePage key={role} name={decodeURIComponent(role)} /></Guarded>
            )}
          </Route>
          <Route path="/changes">
            <Guarded permission="permcast:admin"><Changes /></Guarded>
          </Route>
          <Route path="/system">
            <Guarded permission="permcast:operator"><System /></Guarded>
          </Route>
          {demo !== null && (
            <Route path="/stage">
              <Guarded permission="permcast:admin"><Stage demo={demo} /></Guarded>
            </Route>
          )}
          <Route><Redirect to={home} /></Route>
        </Switch>
      </main>
      {location.startsWith('/stage') ? null : <Strip />}
    </div>
  );
}

/** With the address in the hash, an ordinary anchor would be a change of page. */
function skipToContent(event: React.MouseEvent): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}

function NavLink({ entry, active }: { entry: Entry; active: boolean }) {
  const Icon = entry.icon;
  const self = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    // On a phone the menu is a row that scrolls.
    if (active) self.current?.scrollIntoView({ block: 'nearest', inline: 'center' });
  }, [active]);
  return (
    <Link
      ref={self}
      href={entry.path}
      className={classes['link'] ?? ''}
      data-active={active || undefined}
      aria-current={active ? 'page' : undefined}
    >
      <Icon size={19} stroke={1.7} aria-hidden="true" />
      <span>{entry.label}</span>
    </Link>
  );
}

function UserMenu(props: { name: string; user: string; tenant: string; roles: readonly string[] }) {
  const { client } = usePermcast();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const schemes = [
    { value: 'light', icon: IconSun, label: 'Light' },
    { value: 'dark', icon: IconMoon, label: 'Dark' },
    { value: 'auto', icon: IconDeviceDesktop, label: 'As the system' },
  ] as const;
  return (
    <Menu position="bottom-end" width={240} shadow="md" radius="md">
      <Menu.Target>
        <UnstyledButton className={classes['user'] ?? ''} aria-label={`${props.name}: account and settings`}>
          <span className={classes['avatar']}>{initials(props.name)}</span>
          <span className={classes['user-name']}>{props.name}</span>
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <div className={classes['identity']}>
          <strong>{props.name}</strong>
          <div>
            <code>{props.tenant}/{props.user}</code>
          </div>
          <div data-testid="my-roles">{props.roles.length > 0 ? props.roles.join(', ') : 'no roles'}</div>
        </div>
        <Menu.Divider />
        <div className={classes['schemes']} role="group" aria-label="Colours">
          {schemes.map(({ value, icon: Icon, label }) => (
            <ActionIcon
              key={value}
              variant={colorScheme === value ? 'light' : 'subtle'}
              color={colorScheme === value ? 'tide' : 'gray'}
              aria-label={label}
              aria-pressed={colorScheme === value}
              onClick={() => setColorScheme(value)}
            >
              <Icon size={18} stroke={1.7} />
            </ActionIcon>
          ))}
        </div>
        <Menu.Divider />
        <Menu.Item leftSection={<IconLogout size={17} stroke={1.7} />} onClick={() => void client.signOut()}>
          Sign out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
