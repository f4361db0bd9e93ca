/** What the server says about itself where it runs as a demo. */

export interface DemoUser {
  id: string;
  name: string;
  note: string;
}

export interface Demo {
  password: string;
  users: DemoUser[];
  replicas: { id: string; url: string }[];
}

/** Null where the server is no demo, or cannot be asked. */
export async function loadDemo(): Promise<Demo | null> {
  try {
    const response = await fetch('/demo.json', { credentials: 'omit' });
    if (!response.ok) return null;
    const demo = (await response.json()) as Partial<Demo>;
    if (typeof demo.password !== 'string') return null;
    return { password: demo.password, users: demo.users ?? [], replicas: demo.replicas ?? [] };
  } catch {
    return null;
  }
}

/** The replica that served this page, and the others. */
export function replicasOf(demo: Demo): { here: string | null; others: { id: string; url: string }[] } {
  const same = ({ url }: { url: string }) => {
    try {
      return new URL(url).origin === location.origin;
    } catch {
      return false;
    }
  };
  return { here: demo.replicas.find(same)?.id ?? null, others: demo.replicas.filter((replica) => !same(replica)) };
}
