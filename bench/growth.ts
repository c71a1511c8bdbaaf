/** What might grow and must not: with keys listed, connections, the age of ciphertexts, uptime; and Status under load. */
import type { Client } from '@grpc/grpc-js';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { dial, firstAnswer, invoke } from './first-answer.ts';
import { buildLoadClient, load, type LoadJob, type LoadResult } from './load-client.ts';
import { HOST, makeStage, type Stage } from './stage.ts';
import { family, memoryMiB, type Subject } from './subject.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '1.5' },
    calls: { type: 'string', default: '1000000' },
    help: { type: 'boolean', default: false },
  },
});
const HELP = `Usage: scripts/bench growth [options]
  --rounds N   rounds of each, alternating (default 5)
  --seconds N  measured in each (default 1.5)
  --calls N    calls of the run that watches memory (default 1000000; 0: none)
`;
const KEYS = 100;
const CONNECTIONS = 200;
const IN_FLIGHT = 8;
const VALUE_BYTES = 1_024;
const DIRECT = '{"name":"direct"}';

const rounds = Number(options.rounds);
const seconds = Number(options.seconds);
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;
const print = (...cells: readonly (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);
function head(...names: readonly string[]): void {
  console.log('');
  print(...names);
  print(...names.map(() => '---'));
}

async function checked(client: string, subject: Subject, job: LoadJob): Promise<LoadResult> {
  const result = await load(client, job);
  if (Object.keys(result.errors).length > 0) throw new Error(`${subject.name}: ${JSON.stringify(result.errors)}`);
  return result;
}

const decrypts = (subject: Subject, ca: string, inFlight: number): LoadJob => ({
  socket: subject.tls,
  ca,
  host: HOST,
  method: 'decrypt',
  size: VALUE_BYTES,
  inFlight,
  seconds,
  warmUpSeconds: 0.3,
});

async function begun(subject: Subject, ca: string): Promise<Subject> {
  await firstAnswer(subject, ca);
  return subject;
}

/** One key beside a hundred, and one connection beside two hundred: the same load on each, in turns. */
async function keysAndConnections(stage: Stage, client: string): Promise<Subject> {
  const labels = Array.from({ length: KEYS - 1 }, (_, index) => `old-${index}`);
  await stage.makeKeys(labels);
  const decrypt = labels.map((label) => ({ label, state: 'decrypt' }));
  const limits = { limits: { connections: CONNECTIONS + 8 } };
  const one = await begun(stage.plugin('one', DIRECT, limits), stage.ca);
  const hundred = await begun(
    stage.plugin('hundred', DIRECT, { keys: [{ label: stage.keyLabel, state: 'active' }, ...decrypt] }),
    stage.ca,
  );
  const crowd = await begun(stage.plugin('crowd', DIRECT, limits), stage.ca);
  const clients: Client[] = [];
  for (let index = 1; index < CONNECTIONS; index++) {
    const connection = dial(crowd, stage.ca);
    clients.push(connection);
    await invoke(connection, 'Encrypt', { plain: Buffer.alloc(32) });
  }
  const subjects = [one, hundred, crowd];
  const results = subjects.map((): LoadResult[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, subject] of subjects.entries()) {
      results[index]?.push(await checked(client, subject, decrypts(subject, stage.ca, IN_FLIGHT)));
    }
  }
  const names = ['1 key, 1 connection', `${KEYS} keys listed`, `${CONNECTIONS} connections`];
  head('plugin with', 'requests/s', 'to the first', 'p50 ms', 'p99 ms', 'PSS MiB');
  for (const [index, subject] of subjects.entries()) {
    const done = results[index] ?? [];
    const ratio = median(done.map(({ rate }, round) => rate / (results[0]?.[round]?.rate ?? NaN)));
    const memory = memoryMiB(family(subject.process?.pid ?? 0)).toFixed(0);
    const [p50, p99] = [median(done.map((r) => r.p50Ms)).toFixed(2), median(done.map((r) => r.p99Ms)).toFixed(2)];
    print(names[index] ?? '', median(done.map((r) => r.rate)).toFixed(0), ratio.toFixed(2), p50, p99, memory);
  }
  for (const connection of clients) connection.close();
  crowd.process?.kill('SIGTERM');
  one.process?.kill('SIGTERM');
  return hundred;
}

/** Ciphertexts under the key that is listed last beside fresh ones, one call at a time, in turns. */
async function age(stage: Stage, hundred: Subject): Promise<void> {
  const past = await begun(
    stage.plugin('past', DIRECT, { keys: [{ label: `old-${KEYS - 2}`, state: 'active' }] }),
    stage.ca,
  );
  const then = dial(past, stage.ca);
  const plain = Buffer.alloc(VALUE_BYTES, 1);
  const old = await invoke(then, 'Encrypt', { plain });
  then.close();
  past.process?.kill('SIGTERM');
  const now = dial(hundred, stage.ca);
  const fresh = await invoke(now, 'Encrypt', { plain });
  const times: Record<'fresh' | 'old', number[]> = { fresh: [], old: [] };
  for (let turn = 0; turn < 2_000; turn++) {
    for (const [kind, { cipher }] of [
      ['fresh', fresh],
      ['old', old],
    ] as const) {
      const began = performance.now();
      const answer = await invoke(now, 'Decrypt', { cipher });
      times[kind].push(performance.now() - began);
      if (answer.plain?.equals(plain) !== true) throw new Error('a wrong plaintext');
    }
  }
  now.close();
  head('ciphertext under', 'p50 ms', 'to the first');
  print('the active key', median(times.fresh).toFixed(3), '1.00');
  print(`the last of ${KEYS} keys`, median(times.old).toFixed(3), (median(times.old) / median(times.fresh)).toFixed(2));
}

/** Status every 5 ms on a connection of its own: idle, then beside 64 decrypts in flight. */
async function status(stage: Stage, subject: Subject, client: string): Promise<void> {
  const asking = (): Promise<LoadResult> =>
    checked(client, subject, {
      ...{ socket: subject.plain, method: 'status', size: 0, inFlight: 1 },
      ...{ seconds: seconds * 2, warmUpSeconds: 0.3, intervalMs: 5 },
    });
  const idle: LoadResult[] = [];
  const busy: LoadResult[] = [];
  for (let round = 0; round < rounds; round++) {
    idle.push(await asking());
    const loaded = checked(client, subject, { ...decrypts(subject, stage.ca, 64), seconds: seconds * 2 + 0.5 });
    busy.push(await asking());
    await loaded;
  }
  head('Status (v2)', 'p50 ms', 'p99 ms', 'p99 to idle');
  const floor = median(idle.map((r) => r.p99Ms));
  for (const [name, done] of [
    ['idle', idle],
    ['beside 64 in flight', busy],
  ] as const) {
    const p99 = median(done.map((r) => r.p99Ms));
    print(name, median(done.map((r) => r.p50Ms)).toFixed(2), p99.toFixed(2), (p99 / floor).toFixed(1));
  }
}

async function uptime(stage: Stage, subject: Subject, client: string): Promise<void> {
  const calls = Number(options.calls);
  if (calls === 0) return;
  head('calls so far', 'PSS MiB', 'requests/s', 'p50 ms');
  for (let done = 0; done < calls;) {
    const job = { ...decrypts(subject, stage.ca, 64), seconds: 120, warmUpSeconds: 0, maxRequests: calls / 10 };
    const result = await checked(client, subject, job);
    done += result.requests;
    const memory = memoryMiB(family(subject.process?.pid ?? 0)).toFixed(0);
    print(done, memory, result.rate.toFixed(0), result.p50Ms.toFixed(2));
  }
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  const client = buildLoadClient();
  const stage = await makeStage(0, true);
  try {
    console.log(
      `SoftHSM2, direct, TLS, ${VALUE_BYTES} bytes, ${IN_FLIGHT} in flight; load of the machine ${loadavg()[0]?.toFixed(1)}.`,
    );
    const hundred = await keysAndConnections(stage, client);
    await age(stage, hundred);
    await status(stage, hundred, client);
    await uptime(stage, hundred, client);
    const ended = new Promise((resolve) => hundred.process?.once('exit', resolve));
    hundred.process?.kill('SIGTERM');
    await ended;
  } finally {
    await stage.close();
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
