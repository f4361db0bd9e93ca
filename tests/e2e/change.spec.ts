import { expect, test, type Browser, type Locator, type Page } from '@playwright/test';
import { startDemo, type Demo } from './demo.ts';

let demo: Demo;

test.beforeAll(async () => {
  demo = await startDemo();
});

// A page that is left open would go on trying to reach the demo.
test.afterEach(({ browser }) => Promise.all(browser.contexts().map((context) => context.close())));

test.afterAll(() => demo?.stop());

/** A browser of its own: nothing is shared between two users. */
async function signedIn(browser: Browser, url: string, user: string, path: string): Promise<Page> {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${url}/#${path}`);
  await page.getByTestId(`sign-in-${user}`).click();
  await expect(page.getByRole('status').filter({ hasText: 'Live' })).toBeVisible();
  return page;
}

/** Two replicas where a broker is there; the same one twice otherwise, and the test says so. */
function urls(): { admin: string; user: string } {
  const [first, second] = demo.replicas;
  if (first === undefined) throw new Error('no replica');
  if (second === undefined) test.info().annotations.push({ type: 'one replica', description: 'no broker was found' });
  return { admin: first.url, user: (second ?? first).url };
}

/** A switch lies under its own label, so it is clicked by force; which would also click one that is still busy. */
async function flip(control: Locator): Promise<void> {
  await expect(control).toBeEnabled();
  await control.click({ force: true });
}

/** Finds a reload: what was put on the window is gone after one. */
const mark = (page: Page) => page.evaluate(() => void Object.assign(window, { unreloaded: true }));
const unreloaded = (page: Page) => page.evaluate(() => 'unreloaded' in window);

test('a role taken away on one replica takes the button away on the other, without a reload', async ({ browser }) => {
  const { admin, user } = urls();
  const ben = await signedIn(browser, user, 'ben', '/invoices');
  const ada = await signedIn(browser, admin, 'ada', '/users/ben');
  const button = ben.getByTestId('create-invoice');
  const role = ada.getByRole('switch', { name: 'ben has the role editor' });
  await expect(button).toBeVisible();
  await expect(role).toBeChecked();
  await mark(ben);

  await flip(role);
  await expect(button).toBeHidden();
  await expect(role).not.toBeChecked();
  await expect(ada.getByTestId('strip')).toContainText('ben loses the role editor');

  await flip(role);
  await expect(button).toBeVisible();
  await expect(role).toBeChecked();
  expect(await unreloaded(ben)).toBe(true);
});

test('administrator and user side by side see one change on its whole way', async ({ browser }) => {
  const { admin } = urls();
  const page = await (await browser.newContext()).newPage();
  const refused: string[] = [];
  page.on('console', (message) => {
    // The page keeps to the policy, and the policy lets it reach the other replica.
    if (/Content Security Policy/i.test(message.text())) refused.push(message.text());
  });
  await page.goto(admin);
  await page.getByText('Watch a change travel').click();
  const user = page.getByRole('region', { name: 'User', exact: true });
  await expect(user.getByTestId('create-invoice')).toBeVisible();
  const other = demo.replicas[1];
  if (other !== undefined) await expect(user).toContainText(`at replica ${other.id}`);
  await flip(page.getByRole('switch', { name: 'ben has the role editor' }));
  await expect(user.getByTestId('create-invoice')).toBeHidden();
  const strip = page.getByTestId('strip');
  await expect(strip).toContainText("ben's token");
  await expect(strip.getByTestId('journey-total').first()).toContainText(/everywhere in [\d.]+ m?s/);
  await flip(page.getByRole('switch', { name: 'ben has the role editor' }));
  await expect(user.getByTestId('create-invoice')).toBeVisible();
  expect(refused).toEqual([]);
});

test('a session that is ended shows the door at once', async ({ browser }) => {
  const { admin, user } = urls();
  const dora = await signedIn(browser, user, 'dora', '/billing');
  const ada = await signedIn(browser, admin, 'ada', '/users/dora');
  await ada.getByRole('button', { name: 'End', exact: true }).first().click();
  await ada.getByRole('button', { name: 'End session' }).click();
  await expect(dora.getByTestId('sign-in-dora')).toBeVisible();
});
