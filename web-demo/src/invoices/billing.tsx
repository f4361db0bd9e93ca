import { Button, Table } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { Can } from '@permcast/client/react';
import parts from '../lib/parts.module.css';
import { money } from './data.ts';
import classes from './invoices.module.css';

const PAYMENTS = [
  { day: '2026-11-23', from: 'Kestrel Cycles', cents: 486_720, way: 'Transfer' },
  { day: '2026-11-21', from: 'Café Linden', cents: 21_900, way: 'Card' },
  { day: '2026-11-19', from: 'Tern Instruments', cents: 730_000, way: 'Transfer' },
  { day: '2026-11-16', from: 'Orchard Press', cents: 118_050, way: 'Direct debit' },
];

export function Billing() {
  const received = PAYMENTS.reduce((sum, { cents }) => sum + cents, 0);
  return (
    <>
      <div className={parts['page-head']}>
        <div>
          <h1>Billing</h1>
          <p>What came in, and where it went</p>
        </div>
        <Can permission="billing:write">
          <Button
            onClick={() => notifications.show({ title: 'Paid out', message: 'In a real ledger, the money would be on its way.' })}
          >
            Pay out
          </Button>
        </Can>
      </div>
      <div className={classes['figures']}>
        <Figure label="Received in November" value={money(received)} />
        <Figure label="Balance" value={money(2_904_410)} />
        <Figure label="Next payout" value="1 Dec" />
      </div>
      <div className={parts['table-card']}>
        <Table verticalSpacing="sm" horizontalSpacing="md">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Day</Table.Th>
              <Table.Th>From</Table.Th>
              <Table.Th className={parts['wide-only'] ?? ''}>Way</Table.Th>
              <Table.Th ta="right">Amount</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {PAYMENTS.map((payment) => (
              <Table.Tr key={payment.day}>
                <Table.Td>{payment.day}</Table.Td>
                <Table.Td>{payment.from}</Table.Td>
                <Table.Td className={parts['wide-only'] ?? ''}>{payment.way}</Table.Td>
                <Table.Td ta="right">{money(payment.cents)}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </div>
    </>
  );
}

export function Figure({ label, value }: { label: string; value: string }) {
  return (
    <div className={classes['figure']}>
      <span className={parts['soft']}>{label}</span>
      <strong>{value}</strong>
    </div>
  );
}
