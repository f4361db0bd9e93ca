import { usePermission } from '@permcast/client/react';
import { IconLock } from '@tabler/icons-react';
import type { ReactNode } from 'react';
import { Empty } from '../lib/empty.tsx';

/** A screen that goes away in the moment in which its permission does. */
export function Guarded({ permission, children }: { permission: string; children: ReactNode }) {
  if (usePermission(permission)) return children;
  return (
    <Empty icon={IconLock} title="This is not open to you">
      It needs <code>{permission}</code>. The moment somebody gives it to you, the screen appears here.
    </Empty>
  );
}
