import parts from '../lib/parts.module.css';
import { Figure } from './billing.tsx';
import { money } from './data.ts';
import classes from './invoices.module.css';

const MONTHS: [string, number][] = [
  ['Dec', 41],
  ['Jan', 38],
  ['Feb', 44],
  ['Mar', 52],
  ['Apr', 49],
  ['May', 58],
  ['Jun', 63],
  ['Jul', 55],
  ['Aug', 47],
  ['Sep', 69],
  ['Oct', 74],
  ['Nov', 82],
];

export function Reports() {
  const highest = Math.max(...MONTHS.map(([, value]) => value));
  const year = MONTHS.reduce((sum, [, value]) => sum + value, 0);
  return (
    <>
      <div className={parts['page-head']}>
        <div>
          <h1>Reports</h1>
          <p>Twelve months to November</p>
        </div>
      </div>
      <div className={classes['figures']}>
        <Figure label="Invoiced in the year" value={money(year * 100_000)} />
        <Figure label="Paid in time" value="94 %" />
        <Figure label="Days until paid" value="11.2" />
      </div>
      <section className={parts['section']}>
        <header>
          <h2>Invoiced by month, thousands of euros</h2>
        </header>
        <div className={classes['bars']} role="img" aria-label={MONTHS.map(([month, value]) => `${month} ${value}`).join(', ')}>
          {MONTHS.map(([month, value]) => (
            <div key={month} className={classes['bar']}>
              <i style={{ height: `${(value / highest) * 78}%` }} />
              {month}
            </div>
          ))}
        </div>
      </section>
    </>
  );
}
