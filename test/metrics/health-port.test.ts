/** /metrics on the health port. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { openHealthServer, type HealthChecks } from '../../src/control/index.ts';
import { until } from '../api/support/fixture.ts';
import { KeptLog } from '../api/support/log.ts';

const OK = { ok: true, reason: 'ok' };

async function serving(t: TestContext, metrics: HealthChecks['metrics']) {
  const log = new KeptLog();
  const checks = { live: () => OK, ready: () => OK, ...(metrics === undefined ? {} : { metrics }) };
  const server = openHealthServer({ address: '127.0.0.1', port: 0 }, checks, log);
  t.after(() => server.close());
  await until(() => server.address() !== undefined);
  const port = server.address()?.port ?? 0;
  return { log, get: (method = 'GET') => fetch(`http://127.0.0.1:${port}/metrics?x=1`, { method }) };
}

describe('/metrics', () => {
  it('is the page, in the format that it names, read-only', async (t) => {
    const contentType = 'text/plain; version=0.0.4; charset=utf-8';
    const { get } = await serving(t, () => Promise.resolve({ contentType, text: 'a_metric 1\n' }));
    const answer = await get();
    assert.deepEqual([answer.status, answer.headers.get('content-type')], [200, contentType]);
    assert.equal(await answer.text(), 'a_metric 1\n');
    const head = await get('HEAD');
    assert.deepEqual([head.status, head.headers.get('content-length'), await head.text()], [200, '11', '']);
    assert.equal((await get('POST')).status, 405);
  });

  it('is not there without metrics', async (t) => {
    const { get } = await serving(t, undefined);
    assert.equal((await get()).status, 404);
  });

  it('answers 500 and keeps the reason in the log when it cannot be put together', async (t) => {
    const { get, log } = await serving(t, () => Promise.reject(new Error('private')));
    const answer = await get();
    assert.equal(answer.status, 500);
    assert.doesNotMatch(await answer.text(), /private/);
    assert.equal(log.lines[0]?.fields['code'], 'KMS-9001');
  });
});
