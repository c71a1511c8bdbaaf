/** Debian's Prometheus, scraping one target every second. */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { freePort } from '../service/installation.ts';

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

export class Prometheus {
  readonly #child: ChildProcess;
  readonly #url: string;
  #output = '';

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()));
    }
  }

  /** @param rules a file of alerting rules, taken as they are. */
  static async start(directory: string, job: string, target: string, rules: string): Promise<Prometheus> {
    mkdirSync(directory);
    copyFileSync(rules, path.join(directory, 'alerts.yml'));
    const config = path.join(directory, 'prometheus.yml');
    writeFileSync(
      config,
      stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: ['alerts.yml'],
        scrape_configs: [{ job_name: job, static_configs: [{ targets: [target] }] }],
      }),
    );
    const address = `127.0.0.1:${await freePort()}`;
    const child = spawn(
      'prometheus',
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${path.join(directory, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const prometheus = new Prometheus(child, `http://${address}`);
    await prometheus.until(async () => (await fetch(`http://${address}/-/ready`)).ok);
    return prometheus;
  }

  /** Waits for what may fail at first; fails when Prometheus has ended. */
  async until(holds: () => Promise<boolean>): Promise<void> {
    while (!(await holds().catch(() => false))) {
      if (this.#child.exitCode !== null) throw new Error(`prometheus has ended: ${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** An instant query. @throws Error with Prometheus' words when the expression is wrong. */
  async query(expression: string): Promise<readonly Sample[]> {
    const { result } = (await this.get(`query?query=${encodeURIComponent(expression)}`)) as { result: Sample[] };
    return result;
  }

  async get(what: string): Promise<unknown> {
    const answer = await fetch(`${this.#url}/api/v1/${what}`);
    const { status, data, error } = (await answer.json()) as { status: string; data: unknown; error?: string };
    if (status !== 'success') throw new Error(error ?? status);
    return data;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('close', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}
