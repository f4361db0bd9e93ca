/** What the console reads. The path is the key; the change feed has all of it read again. */

import { useQuery } from '@tanstack/react-query';
import { usePermcastClient } from '@permcast/client/react';
import { all, page, type Access, type Page, type Role, type Session, type User } from '../lib/api.ts';
import { usePaths } from '../lib/context.tsx';

function useRead<T>(path: string, refetchIntervalMs: number | false = false) {
  const client = usePermcastClient();
  return useQuery({
    queryKey: [path],
    queryFn: ({ signal }) => client.call<T>(path, { signal }),
    refetchInterval: refetchIntervalMs,
  });
}

export const useUsers = (cursor: string | null, limit: number) => useRead<Page<User>>(page(usePaths().users, limit, cursor));
export const useUser = (id: string) => useRead<User>(usePaths().user(id));
export const useAccess = (id: string) => useRead<Access>(usePaths().access(id));
export const useSessions = (id: string) => useRead<Page<Session>>(page(usePaths().sessions(id), 50, null), 15_000);
export const useRolePage = (cursor: string | null, limit: number) =>
  useRead<Page<Role>>(page(usePaths().roles, limit, cursor));
export const useRole = (name: string) => useRead<Role>(usePaths().role(name));

export function useAllRoles() {
  const client = usePermcastClient();
  const where = usePaths();
  return useQuery({
    queryKey: ['all', where.roles],
    queryFn: ({ signal }) => all<Role>(client, where.roles, signal),
  });
}
