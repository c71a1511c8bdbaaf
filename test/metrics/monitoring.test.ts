/** docs/monitoring against the bundled program on SoftHSM2 under load, scraped by Debian's Prometheus. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, type Watched } from '../service/processes.ts';
import { putUnderLoad } from './load.ts';
import { documentedRow, readPage } from './page.ts';
import { Prometheus } from './prometheus.ts';

const docs = path.resolve(import.meta.dirname, '../../docs/monitoring');
const rulesFile = path.join(docs, 'alerts.yml');

interface Rule {
  readonly alert: string;
  readonly expr: string;
}
interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly instant?: boolean }[];
}
interface Dashboard {
  readonly panels: readonly Panel[];
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] };
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

const rules = (parse(readFileSync(rulesFile, 'utf8')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
const dashboard = JSON.parse(readFileSync(path.join(docs, 'dashboard.json'), 'utf8')) as Dashboard;
const readme = readFileSync(path.join(docs, 'README.md'), 'utf8');

/** As Grafana fills it in for all instances. */
const filledIn = (expression: string): string =>
  expression.replaceAll('$instance', '.*').replaceAll('$__rate_interval', '30s');

describe('docs/monitoring', () => {
  let installation: Installation;
  let plugin: Watched;
  let prometheus: Prometheus;
  let stopLoad: () => Promise<void>;
  let page: string;

  before(async () => {
    installation = await makeInstallation();
    installation.configure((raw) => {
      raw['audit'] = { file: 'audit.log' };
    });
    plugin = program('serve', '--config', installation.config);
    await plugin.said(/^ready/);
    stopLoad = putUnderLoad(installation);
    const target = `127.0.0.1:${installation.healthPort}`;
    prometheus = await Prometheus.start(installation.fixture.at('prometheus'), 'kms-plugin', target, rulesFile);
    // The second scrape makes the first rate.
    await prometheus.until(
      async () => Number((await prometheus.query('count_over_time(kms_plugin_ready[1m])'))[0]?.value[1]) >= 5,
    );
    page = await (await fetch(`http://${target}/metrics`)).text();
  });
  after(async () => {
    await stopLoad();
    await prometheus.stop();
    await plugin.stop();
    await installation.cleanup();
  });

  it('is scraped without a fault', async () => {
    const { activeTargets } = (await prometheus.get('targets')) as {
      activeTargets: { health: string; lastError: string }[];
    };
    assert.deepEqual(
      activeTargets.map(({ health, lastError }) => ({ health, lastError })),
      [{ health: 'up', lastError: '' }],
    );
  });

  it('has metrics that promtool finds no fault with', () => {
    const checked = spawnSync('promtool', ['check', 'metrics'], { input: page, encoding: 'utf8' });
    assert.deepEqual([checked.status, checked.stdout, checked.stderr], [0, '', '']);
  });

  it('describes every metric, and no other', () => {
    const rows = [...readPage(page).values()].map(documentedRow);
    const documented = readme.split('\n').filter((line) => /^\| `(kms_plugin|process)_/.test(line));
    assert.deepEqual(documented, rows);
  });

  for (const { alert, expr } of rules) {
    it(`has the data for alert ${alert}`, async () => {
      // With bool a comparison gives 0 where the alert is silent, and still nothing where a series is missing.
      const asked = expr.replaceAll(/ (==|!=|>=|<=|>|<) /g, ' $1 bool ');
      assert.notEqual(asked, expr);
      assert.ok((await prometheus.query(asked)).length > 0, asked);
    });
  }

  it('has no alert while all is well', async () => {
    const { alerts } = (await prometheus.get('alerts')) as { alerts: { labels: { alertname: string } }[] };
    // The installation's v1beta1 listener for kube-apiserver is allowed, and warned of.
    assert.deepEqual(
      alerts.map(({ labels }) => labels.alertname).filter((name) => name !== 'KmsPluginWarnings'),
      [],
    );
  });

  for (const { title, targets = [] } of dashboard.panels) {
    for (const { expr } of targets) {
      it(`has data for panel "${title}": ${expr}`, async () => {
        // What is not 0 is all that such a panel shows: ">=" has its data all the same.
        const samples = await prometheus.query(filledIn(expr).replace(/ > 0$/, ' >= 0'));
        assert.ok(samples.length > 0);
        assert.ok(samples.every(({ value }) => Number.isFinite(Number(value[1]))));
      });
    }
  }

  it("has data for the dashboard's list of instances, and its annotations are understood", async () => {
    const [, metric = '', label = ''] =
      /^label_values\((\w+), (\w+)\)$/.exec(
        dashboard.templating.list.find(({ name }) => name === 'instance')?.definition ?? '',
      ) ?? [];
    const [first] = await prometheus.query(metric);
    assert.ok(first?.metric[label]);
    for (const { expr } of dashboard.annotations.list) {
      assert.deepEqual(await prometheus.query(filledIn(expr)), []);
      assert.ok((await prometheus.query(filledIn(expr).replace(' > ', ' > bool '))).length > 0);
    }
  });

  it('asks only for the present where a panel shows one figure', () => {
    const figures = dashboard.panels.filter(({ type }) => type === 'stat');
    assert.ok(figures.length >= 7);
    for (const { title, targets = [] } of figures) for (const { instant } of targets) assert.ok(instant, title);
  });

  // The last: nothing is there to be asked afterwards.
  it('shows one state of an instance, also of one that is gone', async () => {
    const shown = async (title: string): Promise<string[]> => {
      const [target] = dashboard.panels.find((panel) => panel.title === title)?.targets ?? [];
      return (await prometheus.query(filledIn(target?.expr ?? ''))).map(({ value }) => value[1]);
    };
    const now = (): Promise<string[][]> => Promise.all(['Up', 'Ready', 'HSM'].map(shown));
    assert.deepEqual(await now(), [['1'], ['1'], ['3']]);
    await stopLoad();
    await plugin.stop();
    await prometheus.until(async () => (await shown('Up'))[0] === '0');
    assert.deepEqual(await now(), [['0'], ['0'], ['-1']]);
  });
});
