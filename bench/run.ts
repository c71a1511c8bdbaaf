/**
 * Measures the plugin beside its floors, side by side in one run: `scripts/bench --help` says how. Every figure is a median
 * over alternating rounds; ratios are to the echo service's figure of the same round.
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { firstAnswer } from './first-answer.ts';
import { buildLoadClient, buildPeer, load, type LoadJob, type LoadResult } from './load-client.ts';
import { HOST, makeStage, type Stage } from './stage.ts';
import { cpuSeconds, family, memoryMiB, type Subject } from './subject.ts';

const HELP = `Usage: scripts/bench [options]
  --hsm LIST        softhsm2, or milliseconds for each call to the HSM, e.g. softhsm2,1,5 (default softhsm2,1)
  --transport LIST  tls, plain (default tls)
  --method LIST     encrypt, decrypt (default decrypt)
  --sizes LIST      bytes (default 1024)
  --in-flight LIST  calls at once on one connection (default 1,8,64)
  --rounds N        rounds of each, alternating (default 3)
  --seconds N       measured in each (default 2)
  --peer NAME=TLS-SOCKET[,PLAIN-SOCKET]  another plugin, started by you, trusted by --peer-ca FILE
  --no-peer         without the plugin in Go that bench/peer builds
  --sessions LIST   beside the plugin as it comes (16), one with so many sessions each, e.g. 64
  --no-inits        the HSM's time is taken by C_Encrypt and C_Decrypt only, not by the ...Init calls
`;

const { values: options } = parseArgs({
  options: {
    hsm: { type: 'string', default: 'softhsm2,1' },
    transport: { type: 'string', default: 'tls' },
    method: { type: 'string', default: 'decrypt' },
    sizes: { type: 'string', default: '1024' },
    'in-flight': { type: 'string', default: '1,8,64' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    peer: { type: 'string', multiple: true, default: [] },
    'peer-ca': { type: 'string' },
    'no-peer': { type: 'boolean', default: false },
    sessions: { type: 'string', default: '' },
    'no-inits': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const list = (text: string): string[] => text.split(',').filter((word) => word !== '');
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;
const spread = (numbers: readonly number[]): string =>
  `${Math.min(...numbers).toFixed(0)} to ${Math.max(...numbers).toFixed(0)}`;

interface Round extends LoadResult {
  /** Processor time of all the subject's processes for one request, in microseconds. */
  readonly cpuUs: number;
}

async function measure(subject: Subject, client: string, job: LoadJob): Promise<Round> {
  const pids = subject.process?.pid === undefined ? [] : family(subject.process.pid);
  // Warmed up apart, so that processor time is that of the measured requests.
  await load(client, { ...job, seconds: 0.3, warmUpSeconds: 0 });
  const before = cpuSeconds(pids);
  const result = await load(client, { ...job, warmUpSeconds: 0 });
  const failed = Object.values(result.errors).reduce((sum, count) => sum + count, 0);
  if (failed > 0) throw new Error(`${subject.name}: ${JSON.stringify(result.errors)}`);
  return { ...result, cpuUs: ((cpuSeconds(pids) - before) / result.requests) * 1e6 };
}

function print(cells: readonly (string | number)[]): void {
  console.log(`| ${cells.join(' | ')} |`);
}

function floors(stage: Stage, size: number, seconds: number): void {
  const args = [stage.module, stage.tokenLabel, stage.pinFile, stage.keyLabel, String(size)];
  const env = { ...process.env, ...stage.environment, UV_THREADPOOL_SIZE: '64' };
  const binary = path.join(stage.directory, 'module');
  const p11Kit = execFileSync('pkg-config', ['--cflags', 'p11-kit-1'], { encoding: 'utf8' }).trim().split(' ');
  execFileSync('cc', [
    '-O2',
    ...p11Kit,
    '-o',
    binary,
    path.join(import.meta.dirname, 'floor/module.c'),
    '-ldl',
    '-lpthread',
  ]);
  const fromC = (threads: number): string =>
    execFileSync(binary, [...args, String(threads), String(seconds)], { env, encoding: 'utf8' }).trim();
  const bare = path.join(import.meta.dirname, 'floor/bare-module.ts');
  const fromNode = (sessions: number): string =>
    execFileSync(process.execPath, ['--import', 'tsx', bare, ...args, String(sessions), String(seconds)], {
      env,
      encoding: 'utf8',
      cwd: path.join(import.meta.dirname, '..'),
    }).trim();
  console.log(`\nThe bare module, ${size} bytes, operations a second:\n`);
  print(['called from', 'at once', 'a second']);
  print(['---', '---', '---']);
  for (const threads of [1, 8, 64]) print(['C', threads, fromC(threads)]);
  print(['pkcs11js, synchronous', 1, fromNode(0)]);
  for (const sessions of [8, 64]) print(['pkcs11js, asynchronous', sessions, fromNode(sessions)]);
}

async function compare(stage: Stage, client: string, peer: string | undefined, hsm: string): Promise<void> {
  const seconds = Number(options.seconds);
  const rounds = Number(options.rounds);
  const subjects: Subject[] = [];
  const starts: string[] = [];
  const begin = async (make: () => Subject): Promise<void> => {
    const subject = make();
    subjects.push(subject);
    await firstAnswer(subject, stage.ca);
    await sleep(1_500);
    const pids = subject.process?.pid === undefined ? [] : family(subject.process.pid);
    starts.push(`${subject.name} ${memoryMiB(pids).toFixed(0)}`);
  };
  try {
    await begin(() => stage.echo());
    await begin(() => stage.plugin('direct', '{"name":"direct"}'));
    for (const sessions of list(options.sessions)) {
      await begin(() =>
        stage.plugin(`direct-${sessions}-sessions`, '{"name":"direct"}', { sessions: Number(sessions) }),
      );
    }
    await begin(() => stage.plugin('envelope', '{"name":"envelope","data_key":"reuse"}'));
    if (peer !== undefined) await begin(() => stage.peer(peer));
    for (const peer of options.peer) {
      const [name = 'peer', sockets = ''] = peer.split('=');
      const [tls = '', plain = tls] = sockets.split(',');
      subjects.push({ name, tls, plain, process: undefined });
    }
    console.log(`\n## HSM: ${hsm}\n\nIdle PSS in MiB: ${starts.join(', ')}\n`);
    print([
      'transport',
      'method',
      'bytes',
      'in flight',
      'subject',
      'requests/s',
      'slowest to fastest round',
      'to echo',
      'p50 ms',
      'p99 ms',
      'CPU µs',
      'CPU to echo',
      'PSS MiB',
    ]);
    print(Array.from({ length: 13 }, () => '---'));
    for (const transport of list(options.transport)) {
      for (const method of list(options.method) as ('encrypt' | 'decrypt')[]) {
        for (const size of list(options.sizes).map(Number)) {
          for (const inFlight of list(options['in-flight']).map(Number)) {
            const results = new Map<Subject, Round[]>(subjects.map((subject) => [subject, []]));
            for (let round = 0; round < rounds; round++) {
              for (const [subject, done] of results) {
                const tls = transport === 'tls';
                const ca = subject.process === undefined ? (options['peer-ca'] ?? stage.ca) : stage.ca;
                const job = {
                  method: subject.name === 'echo' ? 'echo' : method,
                  size,
                  inFlight,
                  seconds,
                  warmUpSeconds: 0,
                } as const;
                done.push(
                  await measure(
                    subject,
                    client,
                    tls ? { ...job, socket: subject.tls, ca, host: HOST } : { ...job, socket: subject.plain },
                  ),
                );
              }
            }
            const echo = [...results.values()][0] ?? [];
            for (const [subject, done] of results) {
              const of = (pick: (round: Round) => number): number => median(done.map(pick));
              const ratio = (pick: (round: Round) => number): string =>
                median(
                  done.flatMap((round, index) => {
                    const floor = echo[index];
                    return floor === undefined ? [] : [pick(round) / pick(floor)];
                  }),
                ).toFixed(2);
              const pids = subject.process?.pid === undefined ? [] : family(subject.process.pid);
              print([
                ...[transport, method, size, inFlight, subject.name],
                ...[of((r) => r.rate).toFixed(0), spread(done.map(({ rate }) => rate)), ratio((r) => r.rate)],
                ...[of((r) => r.p50Ms).toFixed(2), of((r) => r.p99Ms).toFixed(2)],
                ...[of((r) => r.cpuUs).toFixed(0), ratio((r) => r.cpuUs), memoryMiB(pids).toFixed(0)],
              ]);
            }
          }
        }
      }
    }
  } finally {
    for (const subject of subjects) subject.process?.kill('SIGTERM');
  }
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  execFileSync(process.execPath, [path.join(import.meta.dirname, '../scripts/build.mjs')]);
  const client = buildLoadClient();
  const peer = options['no-peer'] ? undefined : buildPeer();
  for (const hsm of list(options.hsm)) {
    const delayMs = hsm === 'softhsm2' ? 0 : Number(hsm);
    const name = delayMs === 0 ? 'SoftHSM2' : `${delayMs} ms for each call that goes to it`;
    const stage = await makeStage(delayMs, !options['no-inits']);
    try {
      await compare(stage, client, peer, name);
      for (const size of list(options.sizes).map(Number)) floors(stage, size, Number(options.seconds));
    } finally {
      await stage.close();
    }
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
