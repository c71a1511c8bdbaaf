/** What an operator is told about kube-apiserver's view of the plugin. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { roundTrip, type KubernetesReport } from '../../src/api/index.ts';
import { checkedByApiServer } from '../../src/api/kubernetes.ts';
import { statusScreen } from '../../src/cli/status-screen.ts';
import { STATUS } from '../control/fakes.ts';
import { serve } from '../api/support/fixture.ts';
import { KEY_ID } from '../api/support/keyring.ts';

const OK = { version: 'v2', healthz: 'ok', keyId: KEY_ID };

test('the answer of Status is told as it is now, with what the API server has against it', async (t) => {
  const { server, keyring } = await serve(t);
  const report = () => server.listeners()[0]?.kubernetes;
  assert.deepEqual(report(), { status: OK, problems: [] });

  keyring.become('away');
  const away = report();
  assert.equal(away?.status?.healthz, 'partition test: the token is away');
  assert.match(
    away.problems.join(),
    /^healthz is not "ok", but: partition test: the token is away; the API server is not/,
  );

  keyring.activeKeyId = undefined;
  const unknown = report();
  assert.equal(unknown?.status, undefined);
  assert.match(
    unknown?.problems.join() ?? '',
    /^Status fails: the key that encrypts has never been seen: partition test/,
  );
});

test('when Status was asked last, and by whom: our own commands do not count', async (t) => {
  const { server, client, listener } = await serve(t);
  const asked = () => server.listeners()[0]?.kubernetes?.lastAsked;
  await roundTrip(listener, { api: 'v2', plaintext: Buffer.from('x'), deadlineMs: 5_000 });
  assert.equal(asked(), undefined);

  const from = Date.now();
  await client().status();
  const { at, client: name } = asked() ?? { at: '', client: '' };
  assert.match(name, /^grpc-node-js\/\d/);
  assert.ok(Date.parse(at) >= from && Date.parse(at) <= Date.now(), at);
});

test('a failed Status was asked too', async (t) => {
  const { server, client, keyring } = await serve(t);
  keyring.activeKeyId = undefined;
  await client().status();
  assert.notEqual(server.listeners()[0]?.kubernetes?.lastAsked, undefined);
});

test('a listener without v2 says nothing of it', async (t) => {
  const { server } = await serve(t, { listener: { apis: ['v1beta1'] } });
  assert.equal(server.listeners()[0]?.kubernetes, undefined);
});

test("the API server's checks", () => {
  assert.deepEqual(checkedByApiServer(OK), []);
  assert.deepEqual(checkedByApiServer({ ...OK, version: 'v2beta1', keyId: 'k'.repeat(1024) }), []);
  assert.deepEqual(checkedByApiServer({ ...OK, version: 'v1beta1' }), ['version is "v1beta1", neither v2 nor v2beta1']);
  assert.deepEqual(checkedByApiServer({ ...OK, keyId: '' }), [
    'key_id is empty: writes stop 3 minutes after the last one that was not',
  ]);
  assert.deepEqual(checkedByApiServer({ ...OK, keyId: 'é'.repeat(513) }), ['key_id has 1026 bytes, more than 1024']);
  assert.equal(checkedByApiServer({ version: '', healthz: 'OK', keyId: '' }).length, 3);
});

test('status shows it on its screen', () => {
  const now = new Date('2026-08-02T12:03:04.000Z');
  const screen = (kubernetes: KubernetesReport): string => {
    const listeners = STATUS.listeners.map((each) => ({ ...each, kubernetes }));
    const lines = statusScreen({ ...STATUS, listeners }, false, now).split('\n');
    const first = lines.findIndex((line) => line.startsWith('kubernetes'));
    return lines
      .slice(
        first,
        lines.findIndex((line) => line.startsWith('keys')),
      )
      .join('\n');
  };
  const lastAsked = { at: '2026-08-02T12:02:34.000Z', client: 'grpc-go/1.79.3' };
  assert.equal(
    screen({ status: OK, problems: [], lastAsked }),
    `kubernetes  credhub  Status: v2, ok, key_id ${KEY_ID}; last asked 30 s ago by grpc-go/1.79.3`,
  );
  assert.match(
    screen({ status: OK, problems: ['key_id is empty'] }),
    /v2, not ok.*not asked since the start\n +key_id is empty$/,
  );
  assert.match(screen({ problems: ['Status fails: x'], lastAsked }), /Status: fails; last asked.*\n +Status fails: x$/);
  assert.doesNotMatch(statusScreen(STATUS, false, now), /^kubernetes/m);
});
