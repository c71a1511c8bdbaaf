import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { openHealthServer, type Health, type HealthServer } from '../../src/control/index.ts';
import { fakeLog } from './fakes.ts';

const OK: Health = { ok: true, reason: 'ok' };
const AWAY: Health = { ok: false, reason: 'the token "credhub" is away: CKR_DEVICE_REMOVED' };

const open: HealthServer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const seen = look();
    if (seen !== undefined) return seen;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function serving(live: Health, ready: Health) {
  const { log } = fakeLog();
  const server = openHealthServer({ address: '127.0.0.1', port: 0 }, { live: () => live, ready: () => ready }, log);
  open.push(server);
  const { port } = await until(() => server.address());
  return (path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method });
}

/** Opens 10 connections in 10 ms, each with another beginning, and keeps the last 100. Says when all are open, and in the end how many there were. */
const SLOW_CONNECTIONS = `
  const { connect } = require('node:net');
  const { parentPort, workerData } = require('node:worker_threads');
  const began = ['', 'GET /healthz', 'GET /healthz HTTP/1.1\\r\\nhost: x\\r\\n', 'POST / HTTP/1.1\\r\\ncontent-length: 9\\r\\n\\r\\n{'];
  const slow = [];
  let opened = 0;
  const renew = () => {
    const socket = connect(workerData, '127.0.0.1').on('error', () => undefined);
    socket.write(began[opened++ % began.length]);
    slow.push(socket);
    if (slow.length > 100) slow.shift().destroy();
    if (opened === 100) parentPort.postMessage('all');
  };
  setInterval(() => { for (let count = 0; count < 10; count++) renew(); }, 10);
  parentPort.on('message', () => parentPort.postMessage(opened));
`;

/** One answer's status on a connection of its own, as a kubelet asks. */
function probe(port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path: '/healthz/liveness', agent: false }, (answer) => {
      answer
        .resume()
        .on('error', reject)
        .on('end', () => resolve(answer.statusCode));
    });
    asked.on('error', reject).end();
  });
}

describe('the health port', () => {
  it('is live although the HSM is away, and says why it is not ready', async () => {
    const get = await serving(OK, AWAY);
    const live = await get('/healthz/liveness');
    assert.equal(live.status, 200);
    assert.deepEqual(await live.json(), OK);
    const ready = await get('/healthz/readiness');
    assert.equal(ready.status, 503);
    assert.deepEqual(await ready.json(), AWAY);
    const both = await get('/healthz');
    assert.equal(both.status, 503);
    assert.deepEqual(await both.json(), { liveness: OK, readiness: AWAY });
  });

  it('is ready when all is well, and fails liveness when a listener is gone', async () => {
    const good = await serving(OK, OK);
    assert.equal((await good('/healthz')).status, 200);
    assert.equal((await good('/healthz/readiness')).status, 200);
    const dead = await serving({ ok: false, reason: 'listener credhub does not listen' }, OK);
    assert.equal((await dead('/healthz/liveness')).status, 503);
  });

  it('answers 500 and goes on when a check throws', async () => {
    const { log, lines } = fakeLog();
    const broken = (): never => {
      throw new Error('a stranger must not read this');
    };
    const server = openHealthServer({ address: '127.0.0.1', port: 0 }, { live: broken, ready: () => OK }, log);
    open.push(server);
    const { port } = await until(() => server.address());
    for (const path of ['/healthz/liveness', '/healthz']) {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      assert.equal(answer.status, 500);
      assert.doesNotMatch(await answer.text(), /stranger/);
    }
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz/readiness`)).status, 200);
    assert.deepEqual([lines.length, lines[0]?.fields?.['code']], [2, 'KMS-9001']);
  });

  it('lets every probe in beside 100 slow connections that are renewed 1,000 times a second', async (t) => {
    await serving(OK, OK);
    const { port = 0 } = open.at(-1)?.address() ?? {};
    const attacker = new Worker(SLOW_CONNECTIONS, { eval: true, workerData: port });
    t.after(() => attacker.terminate());
    await once(attacker, 'message');
    for (let count = 0; count < 30; count++) {
      const asked = performance.now();
      assert.equal(await probe(port), 200);
      const took = performance.now() - asked;
      assert.ok(took < 1_000, `a probe gives up after a second, and this one took ${took} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    attacker.postMessage('end');
    const [opened] = (await once(attacker, 'message')) as [number];
    assert.ok(opened > 300, `${opened} slow connections`);
  });

  it('takes GET and HEAD only, and knows nothing else', async () => {
    const get = await serving(OK, OK);
    const head = await get('/healthz/readiness', 'HEAD');
    assert.deepEqual([head.status, await head.text()], [200, '']);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      assert.equal((await get('/healthz/readiness', method)).status, 405);
    }
    assert.equal((await get('/v1/status')).status, 404);
  });

  it('does not stop the service when another program has the port, and takes it when it is free', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { log, lines } = fakeLog();
    const where = { address: '127.0.0.1', port };
    const server = openHealthServer(where, { live: () => OK, ready: () => OK }, log, 20);
    open.push(server);
    await until(() => lines[0]);
    assert.match(lines[0]?.message ?? '', /is in use by another program; .*health\.port/);
    assert.equal(server.address(), undefined);
    other.close();
    await until(() => server.address());
    assert.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200);
    assert.equal(lines.at(-1)?.message, 'the health port is open now');
  });
});
