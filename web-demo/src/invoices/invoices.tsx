import { ActionIcon, Button, Menu, Table, Tooltip } from '@mantine/core';
import { notifications } from '@mantine/notifications';
import { Can, usePermcast } from '@permcast/client/react';
import { IconCheck, IconDotsVertical, IconDownload, IconFileInvoice, IconPlus, IconSend, IconTrash } from '@tabler/icons-react';
import { useState } from 'react';
import { Empty } from '../lib/empty.tsx';
import { showError } from '../lib/context.tsx';
import parts from '../lib/parts.module.css';
import { INVOICES, mayI, money, newInvoice, type Invoice, type InvoiceStatus } from './data.ts';
import classes from './invoices.module.css';

/** The demo's app: what can be seen and done follows the permissions, without a reload. */
export function Invoices() {
  const { client } = usePermcast();
  const [invoices, setInvoices] = useState<readonly Invoice[]>(INVOICES);
  const visible = invoices.filter((invoice) => client.can(`invoices:read:${invoice.id}`));
  const mayAct = ['approve', 'edit', 'delete'].some((action) =>
    visible.some((invoice) => client.can(`invoices:${action}:${invoice.id}`)),
  );

  const act = async (action: string, what: string, id: string | undefined, then: () => void) => {
    try {
      if (!(await mayI(client, action, 'invoices', id))) {
        notifications.show({ color: 'red', title: 'Refused', message: `The server does not let you ${what}.` });
        return;
      }
      then();
    } catch (error) {
      showError(error);
    }
  };
  const create = () =>
    act('create', 'create an invoice', undefined, () => setInvoices((list) => [newInvoice(list), ...list]));
  const become = (id: string, status: InvoiceStatus) =>
    setInvoices((list) => list.map((invoice) => (invoice.id === id ? { ...invoice, status } : invoice)));
  const approve = (id: string) => act('approve', `approve invoice ${id}`, id, () => become(id, 'approved'));
  const send = (id: string) => act('edit', `send invoice ${id}`, id, () => become(id, 'waiting'));
  const remove = (id: string) =>
    act('delete', `delete invoice ${id}`, id, () => setInvoices((list) => list.filter((invoice) => invoice.id !== id)));

  const open = visible.filter((invoice) => invoice.status !== 'approved').reduce((sum, { cents }) => sum + cents, 0);
  return (
    <>
      <div className={parts['page-head']}>
        <div>
          <h1>Invoices</h1>
          <p>
            {visible.length} in the ledger, {money(open)} open
          </p>
        </div>
        <div className={parts['actions']}>
          <Can permission="reports:read">
            <Button variant="default" leftSection={<IconDownload size={17} />} onClick={() => download(visible)}>
              Export
            </Button>
          </Can>
          <Can permission="invoices:create">
            <Button leftSection={<IconPlus size={17} />} onClick={() => void create()} data-testid="create-invoice">
              New invoice
            </Button>
          </Can>
        </div>
      </div>
      {visible.length === 0 ? (
        <Empty icon={IconFileInvoice} title="No invoices">
          None of the ledger's invoices is open to you at the moment.
        </Empty>
      ) : (
        <div className={parts['table-card']}>
          <Table verticalSpacing="sm" horizontalSpacing="md" highlightOnHover className={classes['table'] ?? ''}>
            <Table.Thead>
              <Table.Tr>
                <Table.Th className={parts['wide-only'] ?? ''}>No.</Table.Th>
                <Table.Th>Customer</Table.Th>
                <Table.Th className={parts['wide-only'] ?? ''}>Due</Table.Th>
                <Table.Th className={parts['wide-only'] ?? ''}>Status</Table.Th>
                <Table.Th ta="right">Amount</Table.Th>
                {mayAct && <Table.Th aria-label="Actions" />}
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {visible.map((invoice) => (
                <Table.Tr key={invoice.id}>
                  <Table.Td className={parts['wide-only'] ?? ''}>
                    <code>{invoice.id}</code>
                  </Table.Td>
                  <Table.Td>
                    <div className={classes['customer']}>{invoice.customer}</div>
                    <div className={parts['soft']}>{invoice.subject}</div>
                  </Table.Td>
                  <Table.Td className={`${parts['wide-only']} ${classes['amount']}`}>{invoice.due}</Table.Td>
                  <Table.Td className={parts['wide-only'] ?? ''}>
                    <Status of={invoice} />
                  </Table.Td>
                  <Table.Td ta="right" className={classes['amount'] ?? ''}>
                    {money(invoice.cents)}
                    <div className={parts['narrow-only']}>
                      <Status of={invoice} />
                    </div>
                  </Table.Td>
                  {mayAct && (
                    <Table.Td className={classes['row-actions'] ?? ''}>
                      <RowActions invoice={invoice} approve={approve} send={send} remove={remove} />
                    </Table.Td>
                  )}
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </div>
      )}
    </>
  );
}

function Status({ of: { status } }: { of: Invoice }) {
  return (
    <span className={classes['status']} data-status={status}>
      {status}
    </span>
  );
}

function RowActions(props: {
  invoice: Invoice;
  approve: (id: string) => Promise<void>;
  send: (id: string) => Promise<void>;
  remove: (id: string) => Promise<void>;
}) {
  const { client } = usePermcast();
  const { id, status } = props.invoice;
  const mayApprove = client.can(`invoices:approve:${id}`) && status !== 'approved';
  const maySend = client.can(`invoices:edit:${id}`) && status === 'draft';
  const mayDelete = client.can(`invoices:delete:${id}`);
  return (
    <div className={classes['buttons']}>
      {mayApprove && (
        <Tooltip label="Approve">
          <ActionIcon variant="light" aria-label={`Approve invoice ${id}`} onClick={() => void props.approve(id)}>
            <IconCheck size={17} />
          </ActionIcon>
        </Tooltip>
      )}
      {(maySend || mayDelete) && (
        <Menu position="bottom-end" shadow="md">
          <Menu.Target>
            <ActionIcon variant="subtle" color="gray" aria-label={`More for invoice ${id}`}>
              <IconDotsVertical size={17} />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            {maySend && (
              <Menu.Item leftSection={<IconSend size={16} />} onClick={() => void props.send(id)}>
                Send for approval
              </Menu.Item>
            )}
            {mayDelete && (
              <Menu.Item color="red" leftSection={<IconTrash size={16} />} onClick={() => void props.remove(id)}>
                Delete invoice {id}
              </Menu.Item>
            )}
          </Menu.Dropdown>
        </Menu>
      )}
    </div>
  );
}

function download(invoices: readonly Invoice[]): void {
  const quote = (value: string) => `"${value.replaceAll('"', '""')}"`;
  const rows = invoices.map(({ id, customer, subject, cents, due, status }) =>
    [id, quote(customer), quote(subject), (cents / 100).toFixed(2), due, status].join(','),
  );
  const text = ['number,customer,subject,amount,due,status', ...rows].join('\r\n');
  const url = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  const anchor = Object.assign(document.createElement('a'), { href: url, download: 'invoices.csv' });
  anchor.click();
  URL.revokeObjectURL(url);
}
