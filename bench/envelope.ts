/** `direct` beside `envelope`: requests a second, latency, HSM calls for 1,000 requests, memory of cached data keys. */
import { execFileSync } from 'node:child_process';
import { loadavg } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildLoadClient, load, type LoadJob, type LoadResult } from './load-client.ts';
import { HOST, makeStage, type Stage } from './stage.ts';
import { family, memoryMiB, type Subject } from './subject.ts';

const HELP = `Usage: scripts/bench envelope [options]
  --hsm LIST        softhsm2, or milliseconds added to each C_Encrypt and C_Decrypt (default softhsm2,2)
  --method LIST     encrypt, decrypt (default encrypt,decrypt)
  --in-flight LIST  calls at once on one connection (default 1,8,64)
  --size N          bytes of a value (default 1024)
  --rounds N        rounds of each, alternating (default 3)
  --seconds N       measured in each (default 2)
`;

const SCHEMES: Readonly<Record<string, object>> = {
  direct: { name: 'direct' },
  'envelope, reuse': { name: 'envelope', data_key: 'reuse' },
  'envelope, per-value': { name: 'envelope', data_key: 'per-value' },
  'envelope, per-value, cache off': { name: 'envelope', data_key: 'per-value', cache_ttl: '0' },
};
const CACHED = 10_000;

const { values: options } = parseArgs({
  options: {
    hsm: { type: 'string', default: 'softhsm2,2' },
    method: { type: 'string', default: 'encrypt,decrypt' },
    'in-flight': { type: 'string', default: '1,8,64' },
    size: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    help: { type: 'boolean', default: false },
  },
});
const list = (text: string): string[] => text.split(',').filter((word) => word !== '');
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;
const print = (...cells: readonly (string | number)[]): void => console.log(`| ${cells.join(' | ')} |`);

interface Round extends LoadResult {
  readonly hsmCallsPerThousand: number;
}

async function measure(stage: Stage, subject: Subject, client: string, job: LoadJob): Promise<Round> {
  await load(client, { ...job, seconds: 0.3 });
  const before = stage.hsmCalls();
  const result = await load(client, job);
  if (Object.keys(result.errors).length > 0) throw new Error(`${subject.name}: ${JSON.stringify(result.errors)}`);
  return { ...result, hsmCallsPerThousand: ((stage.hsmCalls() - before) / result.requests) * 1000 };
}

async function answers(subject: Subject, client: string): Promise<void> {
  const job = { socket: subject.plain, method: 'encrypt', size: 32, inFlight: 1, seconds: 0.01 } as const;
  for (let tries = 0; tries < 400; tries++) {
    const answered = await load(client, { ...job, warmUpSeconds: 0 }).catch(() => undefined);
    if (answered !== undefined && answered.requests > 0) return;
    await sleep(50);
  }
  throw new Error(`${subject.name} does not answer`);
}

async function compare(stage: Stage, client: string): Promise<void> {
  const subjects = Object.entries(SCHEMES).map(([name, scheme]) =>
    stage.plugin(name.replaceAll(/\W+/g, '-'), JSON.stringify(scheme)),
  );
  const names = Object.keys(SCHEMES);
  try {
    for (const subject of subjects) await answers(subject, client);
    print('method', 'in flight', 'scheme', 'requests/s', 'p50 ms', 'p99 ms', 'HSM calls per 1,000');
    print(...Array.from({ length: 7 }, () => '---'));
    for (const method of list(options.method) as ('encrypt' | 'decrypt')[]) {
      for (const inFlight of list(options['in-flight']).map(Number)) {
        const rounds = subjects.map((): Round[] => []);
        for (let round = 0; round < Number(options.rounds); round++) {
          for (const [index, subject] of subjects.entries()) {
            const job = { method, inFlight, size: Number(options.size), seconds: Number(options.seconds) };
            const target = { socket: subject.tls, ca: stage.ca, host: HOST, warmUpSeconds: 0 };
            rounds[index]?.push(await measure(stage, subject, client, { ...job, ...target }));
          }
        }
        for (const [index, done] of rounds.entries()) {
          const of = (pick: (round: Round) => number): number => median(done.map(pick));
          print(
            ...[method, inFlight, names[index] ?? '', of((r) => r.rate).toFixed(0)],
            ...[of((r) => r.p50Ms).toFixed(2), of((r) => r.p99Ms).toFixed(2)],
            of((r) => r.hsmCallsPerThousand).toFixed(of((r) => r.hsmCallsPerThousand) < 10 ? 1 : 0),
          );
        }
      }
    }
  } finally {
    for (const subject of subjects) subject.process?.kill('SIGTERM');
  }
}

/** Memory of the plugin process after so many values, each with a data key of its own, kept or not. */
async function memory(stage: Stage, client: string): Promise<void> {
  console.log(`\nMemory of the plugin process (PSS) after ${CACHED} values, each with a data key of its own:\n`);
  print('cached data keys', 'MiB');
  print('---', '---');
  for (const kept of [0, CACHED]) {
    const scheme = { name: 'envelope', data_key: 'per-value', cache_size: kept };
    const subject = stage.plugin(`memory-${kept}`, JSON.stringify(scheme));
    try {
      await answers(subject, client);
      const job = { socket: subject.plain, method: 'encrypt', size: Number(options.size), inFlight: 8 } as const;
      await load(client, { ...job, seconds: 300, warmUpSeconds: 0, maxRequests: CACHED });
      await sleep(10_000);
      const pid = subject.process?.pid;
      print(kept, (pid === undefined ? NaN : memoryMiB(family(pid).slice(0, 1))).toFixed(1));
    } finally {
      subject.process?.kill('SIGTERM');
    }
  }
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  execFileSync(process.execPath, [path.join(import.meta.dirname, '../scripts/build.mjs')]);
  const client = buildLoadClient();
  for (const hsm of list(options.hsm)) {
    const delayMs = hsm === 'softhsm2' ? 0 : Number(hsm);
    const stage = await makeStage(delayMs, false, true);
    try {
      console.log(`\n### SoftHSM2${delayMs === 0 ? '' : `, ${delayMs} ms added to each C_Encrypt and C_Decrypt`}\n`);
      await compare(stage, client);
      if (delayMs === 0) await memory(stage, client);
    } finally {
      await stage.close();
    }
    console.log(`\nLoad of the machine at the end (1 minute): ${loadavg()[0]?.toFixed(1) ?? ''}`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
