/** What callers see while the HSM is away for a minute, in each scheme, per ten seconds. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { KmsClient, statusOf } from '../test/api/support/clients.ts';
import { makeStage, type Stage } from './stage.ts';
import type { Subject } from './subject.ts';

const HELP = `Usage: scripts/bench outage [options]
  --outage N  seconds that the HSM is away (default 60), after and before 10 s in which it is there
  --pause N   milliseconds between a caller's answer and its next call (default 50)
`;

const SCHEMES: Readonly<Record<string, object>> = {
  direct: { name: 'direct' },
  'envelope, reuse': { name: 'envelope', data_key: 'reuse' },
  'envelope, reuse, max_age 30s': { name: 'envelope', data_key: 'reuse', max_age: '30s' },
  'envelope, per-value': { name: 'envelope', data_key: 'per-value' },
};
const SPAN_MS = 10_000;
/** Callers of each kind. */
const CALLERS = 2;
const VALUE = Buffer.alloc(1024, 7);
const KINDS = ['Encrypt', 'Decrypt, seen before', 'Decrypt, not seen before'] as const;

const { values: options } = parseArgs({
  options: {
    outage: { type: 'string', default: '60' },
    pause: { type: 'string', default: '50' },
    help: { type: 'boolean', default: false },
  },
});

interface Tally {
  readonly counts: Map<string, number>;
  readonly okMs: number[];
  readonly failedMs: number[];
}

const newTally = (): Tally => ({ counts: new Map(), okMs: [], failedMs: [] });

const written = async (client: KmsClient): Promise<Buffer> => {
  const { response, error } = await client.encrypt(VALUE);
  if (response === undefined) throw new Error(error?.message);
  return response.cipher;
};

async function firstAnswer(client: KmsClient): Promise<void> {
  for (let tries = 0; (await client.encrypt(VALUE)).error !== undefined; tries++) {
    if (tries > 200) throw new Error('the plugin does not answer');
    await sleep(50);
  }
}

/** Values that another run of the plugin wrote, each with a data key of its own. */
async function strangers(stage: Stage, count: number): Promise<Buffer[]> {
  const subject = stage.plugin('before', JSON.stringify({ name: 'envelope', data_key: 'per-value' }));
  const client = new KmsClient(subject.plain);
  await firstAnswer(client);
  const all: Buffer[] = [];
  while (all.length < count) all.push(...(await Promise.all(Array.from({ length: 32 }, () => written(client)))));
  client.close();
  subject.process?.kill('SIGTERM');
  return all;
}

async function one(name: string, scheme: object): Promise<string> {
  const stage = await makeStage(0, false, true);
  const outageMs = Number(options.outage) * 1000;
  const pauseMs = Number(options.pause);
  const totalMs = outageMs + 2 * SPAN_MS;
  let subject: Subject | undefined;
  try {
    const unseen = await strangers(stage, Math.ceil((CALLERS * totalMs) / pauseMs));
    subject = stage.plugin('plugin', JSON.stringify(scheme));
    const client = new KmsClient(subject.plain);
    await firstAnswer(client);
    const seen = await Promise.all(Array.from({ length: 16 }, () => written(client)));
    const spans = Array.from({ length: Math.ceil(totalMs / SPAN_MS) }, () => KINDS.map(newTally));
    const began = performance.now();
    const caller = async (kind: number, number: number): Promise<void> => {
      for (let n = number; performance.now() - began < totalMs; n++) {
        const start = performance.now();
        const answer =
          kind === 0
            ? await client.encrypt(VALUE)
            : await client.decrypt((kind === 1 ? seen[n % seen.length] : unseen.pop()) ?? Buffer.alloc(0));
        const ms = performance.now() - start;
        const tally = spans[Math.floor((start - began) / SPAN_MS)]?.[kind];
        if (tally !== undefined) {
          const status = statusOf(answer);
          tally.counts.set(status, (tally.counts.get(status) ?? 0) + 1);
          (status === 'OK' ? tally.okMs : tally.failedMs).push(ms);
        }
        await sleep(pauseMs);
      }
    };
    const outage = sleep(SPAN_MS).then(async () => {
      stage.away(true);
      await sleep(outageMs);
      stage.away(false);
    });
    const callers = KINDS.flatMap((_, kind) => Array.from({ length: CALLERS }, (__, number) => caller(kind, number)));
    await Promise.all([...callers, outage]);
    client.close();
    return table(name, spans, outageMs);
  } finally {
    subject?.process?.kill('SIGTERM');
    await sleep(500);
    await stage.close();
  }
}

function table(name: string, spans: readonly (readonly Tally[])[], outageMs: number): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const lines = [`\n#### ${name}\n`, row(['seconds', 'HSM', ...KINDS]), row(Array.from({ length: 5 }, () => '---'))];
  for (const [index, span] of spans.entries()) {
    const from = index * SPAN_MS;
    const isAway = from >= SPAN_MS && from < SPAN_MS + outageMs;
    lines.push(row([`${from / 1000} to ${(from + SPAN_MS) / 1000}`, isAway ? 'away' : 'there', ...span.map(cell)]));
  }
  return lines.join('\n');
}

/** How many calls ended how, and how long they took: median and longest. */
function cell({ counts, okMs, failedMs }: Tally): string {
  const times = (all: readonly number[]): string => {
    const sorted = [...all].sort((a, b) => a - b);
    return `${(sorted[sorted.length >> 1] ?? NaN).toFixed(0)} to ${(sorted.at(-1) ?? NaN).toFixed(0)} ms`;
  };
  const failed = [...counts].filter(([status]) => status !== 'OK').map(([status, count]) => `${count} ${status}`);
  return [
    ...(okMs.length === 0 ? [] : [`${okMs.length} OK (${times(okMs)})`]),
    ...(failed.length === 0 ? [] : [`${failed.join(', ')} (${times(failedMs)})`]),
  ].join('; ');
}

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  execFileSync(process.execPath, [path.join(import.meta.dirname, '../scripts/build.mjs')]);
  console.log('Each cell: how many calls ended how, and the median to the longest time that they took.');
  const tables = await Promise.all(Object.entries(SCHEMES).map(([name, scheme]) => one(name, scheme)));
  for (const text of tables) console.log(text);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
