/** Clients that take every place and do not move: others are answered all the same, and each is closed in the end. In real time. */
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

it('answers beside those who send nothing, half a request, or do not read their answers, and closes them', async () => {
  // More than the buffers of a Unix socket take.
  const keys = Array.from({ length: 10_000 }, () => KEY);
  const { handlers } = fakeHandlers({ keys: () => Promise.resolve(keys) });
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
  const count = (): Promise<number> => new Promise((resolve) => server.getConnections((_, open) => resolve(open)));
  // Every place is taken.
  while ((await count()) < PLACES) await new Promise((resolve) => setTimeout(resolve, 5));
  for (let times = 0; times < 3; times++) await new ControlClient(socket).status();
  while ((await count()) > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await new ControlClient(socket).keys()).length, keys.length);
  for (const client of still) client.destroy();
  await new Promise((resolve) => server.close(resolve));
});
