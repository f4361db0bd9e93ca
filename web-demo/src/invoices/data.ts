/** A small ledger that lives in this page: permcast keeps permissions, not invoices. */

import type { PermcastClient } from '@permcast/client';

export type InvoiceStatus = 'draft' | 'waiting' | 'approved' | 'overdue';

export interface Invoice {
  id: string;
  customer: string;
  subject: string;
  cents: number;
  due: string;
  status: InvoiceStatus;
}

export const INVOICES: readonly Invoice[] = [
  { id: '1048', customer: 'Harbour & Sons', subject: 'Mooring rings, 40 pieces', cents: 318_000, due: '2026-12-14', status: 'waiting' },
  { id: '1047', customer: 'Atelier Morandi', subject: 'Frames, walnut', cents: 92_450, due: '2026-12-11', status: 'draft' },
  { id: '1046', customer: 'Nordlicht Optik', subject: 'Lens grinding, November', cents: 1_240_000, due: '2026-12-08', status: 'waiting' },
  { id: '1045', customer: 'Café Linden', subject: 'Espresso service', cents: 21_900, due: '2026-12-01', status: 'approved' },
  { id: '1044', customer: 'Kestrel Cycles', subject: 'Wheel sets, third delivery', cents: 486_720, due: '2026-11-27', status: 'approved' },
  { id: '1043', customer: 'Mill Lane Bakery', subject: 'Oven inspection', cents: 64_000, due: '2026-11-13', status: 'overdue' },
  { id: '1042', customer: 'Fenwick Archive', subject: 'Shelving, sent twice', cents: 118_300, due: '2026-11-10', status: 'draft' },
];

const CUSTOMERS = ['Orchard Press', 'Blue Quay Ferries', 'Tern Instruments', 'Salt & Slate'];

export function newInvoice(existing: readonly Invoice[]): Invoice {
  const number = Math.max(1_048, ...existing.map((invoice) => Number(invoice.id))) + 1;
  return {
    id: String(number),
    customer: CUSTOMERS[number % CUSTOMERS.length] ?? 'A customer',
    subject: 'New work',
    cents: 45_000 + (number % 7) * 12_500,
    due: '2026-12-20',
    status: 'draft',
  };
}

export function money(cents: number): string {
  return new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' }).format(cents / 100);
}

/** What shows a button only proposes; the decision is the server's, each time (OpenID AuthZEN). */
export async function mayI(client: PermcastClient, action: string, type: string, id?: string): Promise<boolean> {
  const { state } = client;
  if (state.status !== 'signed_in') return false;
  const answer = await client.call<{ decision: boolean }>('/access/v1/evaluation', {
    method: 'POST',
    json: {
      subject: { type: 'user', id: state.identity.user },
      action: { name: action },
      resource: id === undefined ? { type, id: 'any' } : { type, id },
    },
  });
  return answer.decision;
}
