import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, describe, it } from 'node:test';
import {
  ControlClient,
  ControlRefusedError,
  createControlServer,
  ServiceUnavailableError,
  type ControlHandlers,
} from '../../src/control/index.ts';
import { KmsError } from '../../src/errors/index.ts';
import { CREATED, fakeHandlers, fakeLog, KEY, STATUS } from './fakes.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'kms-control-'));
const socket = path.join(directory, 'control.sock');
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});
/** Closes the server after the test. */
function closing(server: Server): void {
  open.push(() => new Promise((resolve) => server.close(resolve)));
}
after(() => rmSync(directory, { recursive: true }));

async function serving(overrides: Partial<ControlHandlers> = {}) {
  const { handlers, asked } = fakeHandlers(overrides);
  const { log, lines } = fakeLog();
  const server = createControlServer(handlers, log);
  closing(server);
  server.listen(socket);
  await once(server, 'listening');
  return { client: new ControlClient(socket), server, asked, lines };
}

function raw(method: string, url: string, body = ''): Promise<{ status: number; type: string; text: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath: socket, method, path: url, agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text }),
      );
    });
    request.on('error', reject);
    request.end(body);
  });
}

describe('the control socket', () => {
  it('answers each request of the client', async () => {
    const { client, asked } = await serving();
    assert.deepEqual(await client.status(), STATUS);
    assert.deepEqual(await client.keys(), [KEY]);
    assert.deepEqual(await client.createKey('credhub-2026'), CREATED);
    assert.deepEqual(await client.inspectKey('other'), { ...KEY, label: 'other' });
    assert.deepEqual(await client.setLogLevel('debug', 60_000), { level: 'debug' });
    assert.deepEqual(await client.setLogLevel('warn'), { level: 'warn' });
    assert.deepEqual(await client.pins(), []);
    assert.deepEqual(await client.clearPins(), { forgotten: 2 });
    assert.deepEqual(await client.clearPins('abc'), { forgotten: 2 });
    assert.equal((await client.reload()).ok, true);
    assert.deepEqual(asked, [
      ['createKey', 'credhub-2026'],
      ['setLogLevel', 'debug', 60_000],
      ['setLogLevel', 'warn', undefined],
      ['clearPins', undefined],
      ['clearPins', 'abc'],
    ]);
  });

  it('refuses what it does not know, in JSON', async () => {
    await serving();
    const wrong = [
      ['GET', '/', 404],
      ['GET', '/v1/__proto__', 404],
      ['GET', '/__proto__', 404],
      ['POST', '/v1/status', 405],
      ['DELETE', '/v1/keys', 405],
      ['POST', '/v1/log-level', 400, '{"level":"loud"}'],
      ['POST', '/v1/log-level', 400, '{"level":"debug","for":-1}'],
      ['POST', '/v1/keys/create', 400, '{}'],
      ['POST', '/v1/keys/create', 400, '["label"]'],
      ['POST', '/v1/keys/create', 400, '{"label"'],
      ['POST', '/v1/keys/create', 413, JSON.stringify({ label: 'x'.repeat(20_000) })],
      ['POST', '/v1/pin/clear', 400, '{"serial":7}'],
    ] as const;
    for (const [method, url, status, body] of wrong) {
      const answer = await raw(method, url, body);
      assert.equal(answer.status, status, `${method} ${url} ${body ?? ''}`);
      assert.equal(answer.type, 'application/json');
      const { error } = JSON.parse(answer.text) as { error: { message: string } };
      assert.notEqual(error.message, '');
    }
  });

  it('hands failures to the client with code and message, and keeps what is no failure of the table to the log', async () => {
    const { client, lines } = await serving({
      createKey: () => Promise.reject(new KmsError('key-create-refused', 'a key of that label exists')),
      status: () => {
        throw new Error('a stranger must not read this');
      },
    });
    await assert.rejects(client.createKey('x'), (error) => {
      assert.ok(error instanceof ControlRefusedError);
      assert.deepEqual([error.status, error.code, error.message], [409, 'KMS-3006', 'a key of that label exists']);
      return true;
    });
    assert.equal(lines.length, 0);
    await assert.rejects(client.status(), { status: 500, code: 'KMS-9001', message: /internal error/ });
    assert.equal(lines.at(0)?.level, 'error');
    assert.match((lines.at(0)?.fields?.['error'] as Error).message, /stranger/);
  });

  it('goes on when accepting fails while it listens', async () => {
    const { client, lines, server } = await serving();
    // As net.Server does where accept(2) fails; without a listener that would end the process.
    server.emit('error', new Error('accept EMFILE'));
    assert.deepEqual([lines.length, lines[0]?.fields?.['code']], [1, 'KMS-1005']);
    assert.equal((await client.status()).pid, STATUS.pid);
  });

  it('logs nothing of a client that hangs up', async () => {
    const { client, lines } = await serving();
    for (const began of [
      'POST /v1/keys/create HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"label":',
      'GET /v1/st',
    ]) {
      const leaving = connect(socket);
      leaving.write(began);
      await once(leaving, 'connect');
      assert.equal((await client.status()).pid, STATUS.pid);
      leaving.destroy();
    }
    for (let times = 0; times < 5; times++) await client.status();
    assert.deepEqual(lines, []);
  });
});

describe('the control client', () => {
  it('says that the service is down', async () => {
    const client = new ControlClient(path.join(directory, 'nobody.sock'));
    await assert.rejects(client.status(), (error) => error instanceof ServiceUnavailableError && error.why === 'down');
  });

  it('gives a service that does not answer up when the time is over, also in the middle of an answer', async () => {
    const silent = createServer((connection) => {
      connection.on('error', () => undefined).resume();
      connection.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"half":');
    });
    closing(silent);
    silent.listen(socket);
    await once(silent, 'listening');
    const client = new ControlClient(socket, 100);
    await assert.rejects(client.status(), (error) => error instanceof ServiceUnavailableError && error.why === 'stuck');
  });

  it('is not misled by a service that breaks off or talks nonsense', async () => {
    const answers = [
      '',
      'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"ab',
      'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhm',
    ];
    const odd = createServer((connection) => {
      connection.on('error', () => undefined);
      connection.once('data', () => connection.end(answers.shift() ?? ''));
    });
    closing(odd);
    odd.listen(socket);
    await once(odd, 'listening');
    const client = new ControlClient(socket);
    await assert.rejects(client.status(), { name: 'ServiceUnavailableError', why: 'stuck' });
    await assert.rejects(client.status(), { name: 'ServiceUnavailableError', why: 'stuck' });
    await assert.rejects(client.status(), { name: 'ControlRefusedError', message: /makes no sense/ });
  });

  it('is answered while another connection sends nothing', async () => {
    const { client } = await serving();
    const idle = connect(socket);
    await once(idle, 'connect');
    assert.equal((await client.status()).pid, STATUS.pid);
    idle.destroy();
  });
});
