/** Clients that take every place and do not move: each is closed in the end, and others are answered again. In real time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, it } from 'node:test';
import { ControlClient, createControlServer } from '../../src/control/index.ts';
import { fakeHandlers, fakeLog, KEY } from './fakes.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'kms-slow-'));
after(() => rmSync(directory, { recursive: true }));

/** As many as the control socket takes. */
const PLACES = 32;

const REQUEST = 'GET /v1/keys HTTP/1.1\r\nhost: localhost\r\n\r\n';

it('closes who sends nothing, half a request, or does not read its answers', async () => {
  // More than the buffers of a Unix socket take.
  const keys = Array.from({ length: 10_000 }, () => KEY);
  const { handlers } = fakeHandlers({ keys: () => keys });
  const server = createControlServer(handlers, fakeLog().log);
  const socket = path.join(directory, 'control.sock');
  server.listen(socket);
  await once(server, 'listening');
  const began = [
    '',
    'GET /v1/st',
    'POST /v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{',
    REQUEST,
  ];
  const still: Socket[] = Array.from({ length: PLACES }, (_, at) => {
    const client = connect(socket).on('error', () => undefined);
    client.pause();
    client.write(began[at % began.length] ?? '');
    return client;
  });
  await Promise.all(still.map((client) => once(client, 'connect')));
  await assert.rejects(new ControlClient(socket).status(), { why: 'stuck' }, 'every place is taken');
  const count = (): Promise<number> => new Promise((resolve) => server.getConnections((_, open) => resolve(open)));
  while ((await count()) > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await new ControlClient(socket).keys()).length, keys.length);
  for (const client of still) client.destroy();
  await new Promise((resolve) => server.close(resolve));
});
