import {
  IconArrowsSplit2,
  IconChartHistogram,
  IconCreditCard,
  IconFileInvoice,
  IconHistory,
  IconServer,
  IconShieldHalf,
  IconUsers,
} from '@tabler/icons-react';

export interface Entry {
  path: string;
  label: string;
  permission: string;
  icon: typeof IconUsers;
  group: 'Ledger' | 'Console';
  /** Only where the server is a demo. */
  demo?: boolean;
}

export const ENTRIES: readonly Entry[] = [
  { path: '/invoices', label: 'Invoices', permission: 'invoices:read', icon: IconFileInvoice, group: 'Ledger' },
  { path: '/billing', label: 'Billing', permission: 'billing:read', icon: IconCreditCard, group: 'Ledger' },
  { path: '/reports', label: 'Reports', permission: 'reports:read', icon: IconChartHistogram, group: 'Ledger' },
  { path: '/stage', label: 'Side by side', permission: 'permcast:admin', icon: IconArrowsSplit2, group: 'Console', demo: true },
  { path: '/users', label: 'Users', permission: 'permcast:admin', icon: IconUsers, group: 'Console' },
  { path: '/roles', label: 'Roles', permission: 'permcast:admin', icon: IconShieldHalf, group: 'Console' },
  { path: '/changes', label: 'Changes', permission: 'permcast:admin', icon: IconHistory, group: 'Console' },
  { path: '/system', label: 'System', permission: 'permcast:operator', icon: IconServer, group: 'Console' },
];
