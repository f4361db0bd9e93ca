import type { IconUsers } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import classes from './parts.module.css';

/** What stands where there is nothing to show, and why. */
export function Empty({ icon: Icon, title, children }: { icon: typeof IconUsers; title: string; children?: ReactNode }) {
  return (
    <div className={classes['empty']}>
      <span className={classes['empty-icon']}>
        <Icon size={26} stroke={1.5} aria-hidden="true" />
      </span>
      <h2>{title}</h2>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}
