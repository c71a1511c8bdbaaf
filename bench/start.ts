/** From the start of the process to the first answer over TLS, beside the echo service and the plugin in Go. */
import { rmSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { firstAnswer } from './first-answer.ts';
import { buildPeer } from './load-client.ts';
import { makeStage } from './stage.ts';
import { family, memoryMiB, type Subject } from './subject.ts';

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, help: { type: 'boolean', default: false } },
});
const median = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? NaN;

async function main(): Promise<void> {
  if (options.help) {
    process.stdout.write('Usage: scripts/bench start [--rounds N]   (default 9)\n');
    return;
  }
  const stage = await makeStage(0, true);
  const peer = buildPeer();
  const makers: Readonly<Record<string, () => Subject>> = {
    echo: () => stage.echo(),
    direct: () => stage.plugin('direct', '{"name":"direct"}'),
    'crypto11, Go': () => stage.peer(peer),
  };
  const times = new Map(Object.keys(makers).map((name) => [name, [] as number[]]));
  const idle = new Map(Object.keys(makers).map((name) => [name, [] as number[]]));
  try {
    for (let round = 0; round < Number(options.rounds); round++) {
      for (const [name, make] of Object.entries(makers)) {
        const began = performance.now();
        const subject = make();
        times.get(name)?.push((await firstAnswer(subject, stage.ca)) - began);
        idle.get(name)?.push(memoryMiB(family(subject.process?.pid ?? 0)));
        const ended = new Promise((resolve) => subject.process?.once('exit', resolve));
        subject.process?.kill('SIGTERM');
        await ended;
        for (const socket of [subject.tls, subject.plain]) rmSync(socket, { force: true });
      }
    }
  } finally {
    await stage.close();
  }
  const echo = times.get('echo') ?? [];
  console.log(`Load of the machine: ${loadavg()[0]?.toFixed(1)}. Medians of ${options.rounds} alternating starts.\n`);
  console.log(
    '| subject | first answer after ms | fastest | to echo | PSS MiB then |\n| --- | --- | --- | --- | --- |',
  );
  for (const [name, all] of times) {
    const ratio = median(all.map((time, index) => time / (echo[index] ?? NaN))).toFixed(2);
    const cells = [
      name,
      median(all).toFixed(0),
      Math.min(...all).toFixed(0),
      ratio,
      median(idle.get(name) ?? []).toFixed(0),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
