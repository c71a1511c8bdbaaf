/**
 * A vcap that wants to be root: it puts links to root's files where scripts of this job act, before they run and between two
 * of their lines. Whatever they then do, root's files stay as they were.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { properties, type HsmName } from '../properties.ts';
import { files } from '../render.ts';
import { Vm, type Ran } from './vm.ts';

const BIN = '/var/vcap/jobs/kms-plugin/bin';
const AS_VCAP = ['setpriv', '--reuid=vcap', '--regid=vcap', '--init-groups'];
/** Root's, and what vcap would like to have. */
const VICTIM = '/opt/victim';
/** What scripts do something with: after each call of one of them vcap wins the race for its arguments. */
const TOOLS = ['install', 'mkdir', 'mktemp', 'tee', 'cat', 'chown', 'chmod', 'mv', 'rm'] as const;
const ATTACKER = '/var/vcap/data/attacker';

const good = (ran: Ran): string => {
  assert.equal(ran.status, 0, `${ran.stdout}\n${ran.stderr}`);
  return ran.stdout;
};

const KINDS: readonly [HsmName, boolean][] = [
  ['softhsm2', true],
  ['cloudhsm', false],
];

function rendered(hsm: HsmName): Readonly<Record<string, string>> {
  return files({
    properties: properties(hsm, {
      socket_endpoint: '/var/vcap/data/sockets/kms-plugin/deep/kms-plugin.sock',
      ...(hsm === 'softhsm2'
        ? {}
        : { module: '/var/vcap/packages/hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so' }),
      files: [
        { path: 'etc/sub/acme.conf', content: 'a\n' },
        { path: '/opt/acme/etc/acme.conf', content: 'b\n' },
        { path: '/opt/acme/run/sub/acme.conf', content: 'c\n' },
      ],
      post_start: { timeout: 1 },
    }),
  });
}

/** Root's files before the attack; the directory of a vendor that has a part which belongs to vcap. */
function prepare(vm: Vm, hsm: HsmName): void {
  vm.install('kms-plugin', rendered(hsm));
  vm.install('kms-plugin-smoke-tests', files({ job: 'kms-plugin-smoke-tests', properties: {} }));
  good(
    vm.run([
      'sh',
      '-c',
      `mkdir -p ${VICTIM}/directory /opt/acme && echo root >${VICTIM}/file && echo root >${VICTIM}/directory/file &&
       chmod 600 ${VICTIM}/file ${VICTIM}/directory/file && chmod 755 ${VICTIM} && install -d -o vcap -g vcap /opt/acme/run`,
    ]),
  );
}

const victims = (vm: Vm): string =>
  good(vm.run(['sh', '-c', `cd ${VICTIM} && find . -printf '%p %u %g %m %y\\n' | sort && cat file directory/file`]));

/** Every path that vcap could put something else at, as a deployment left it. */
function inReach(vm: Vm): string[] {
  const { stdout: all } = vm.run([
    'find',
    ...['data', 'sys', 'store'].map((at) => `/var/vcap/${at}`),
    '/opt',
    '-mindepth',
    '1',
  ]);
  const script = 'while read -r at; do [ ! -w "$(dirname "$at")" ] || echo "$at"; done';
  return good(vm.run([...AS_VCAP, 'bash', '-c', script], { input: all }))
    .trim()
    .split('\n')
    .filter((at) => !at.includes('attacker'));
}

/** As vcap: a link at $1 to $2. Then, as root, all that root runs of this job, however it ends; the link goes again. */
const PLANT = `
  as=(${AS_VCAP.join(' ')})
  "\${as[@]}" rm -rf -- "$1" && "\${as[@]}" ln -s -- "$2" "$1" || exit 0
  for script in pre-start "kms-plugin status" post-start drain; do ${BIN}/$script; done
  /var/vcap/jobs/kms-plugin-smoke-tests/bin/run
  "\${as[@]}" rm -f -- "$1"`;

/** The program \`tool\`, after which vcap at once puts links to the victim in the place of all that it was about. */
const winner = (tool: string): string => `#!/bin/bash
  as=()
  [ "$(id -u)" -ne 0 ] || as=(${AS_VCAP.join(' ')})
  out=$(/usr/bin/${tool} "$@")
  status=$?
  [ -z "$out" ] || printf '%s\\n' "$out"
  for at in "$@" "$out"; do
    [[ $at == /* ]] && "\${as[@]}" /usr/bin/rm -rf -- "$at" && "\${as[@]}" /usr/bin/ln -s -- ${VICTIM}/directory "$at"
  done 2>/dev/null </dev/null
  exit "$status"
`;

/** A VM whose Node.js does nothing: the plugin itself runs as vcap, and this is about what runs as root. */
async function onVm(disk: boolean, use: (vm: Vm) => void): Promise<void> {
  const packages = mkdtempSync(path.join(tmpdir(), 'kms-links-'));
  mkdirSync(path.join(packages, 'hsm-kms-plugin-nodejs/bin'), { recursive: true });
  writeFileSync(path.join(packages, 'hsm-kms-plugin-nodejs/bin/node'), '#!/bin/sh\n', { mode: 0o755 });
  mkdirSync(path.join(packages, 'hsm-kms-plugin-softhsm2/lib/softhsm'), { recursive: true });
  writeFileSync(path.join(packages, 'hsm-kms-plugin-softhsm2/lib/softhsm/libsofthsm2.so'), '');
  chmodSync(packages, 0o755);
  const vm = await Vm.start(packages, { disk });
  try {
    use(vm);
  } finally {
    await vm.stop();
    rmSync(packages, { recursive: true });
  }
}

export function links(): void {
  describe('a vcap that puts links to root\u2019s files in the way', () => {
    for (const [hsm, disk] of KINDS) {
      test(`${hsm}: in place of everything that vcap can exchange beforehand`, () =>
        onVm(disk, (vm) => {
          prepare(vm, hsm);
          good(vm.run([`${BIN}/pre-start`]));
          const paths = inReach(vm);
          assert.ok(paths.includes('/var/vcap/data/kms-plugin/state'), paths.join('\n'));
          const before = victims(vm);
          for (const at of paths) {
            for (const what of ['directory', 'file', 'directory/new']) {
              const planted = vm.run(['bash', '-c', PLANT, 'plant', at, `${VICTIM}/${what}`]);
              assert.equal(victims(vm), before, `${at} -> ${what}: ${planted.stdout}${planted.stderr}`);
            }
            good(vm.run([`${BIN}/pre-start`]));
          }
        }));

      test(`${hsm}: between any two lines of pre-start`, () =>
        onVm(disk, (vm) => {
          prepare(vm, hsm);
          const before = victims(vm);
          for (const tool of TOOLS) {
            const directory = path.join(vm.vcap, 'data/attacker', tool);
            mkdirSync(directory, { recursive: true });
            writeFileSync(path.join(directory, tool), winner(tool), { mode: 0o755 });
            const { stderr } = vm.run(['env', `PATH=${ATTACKER}/${tool}:/bin:/usr/bin`, `${BIN}/pre-start`]);
            assert.equal(victims(vm), before, `${tool}: ${stderr}`);
            good(
              vm.run([
                ...AS_VCAP,
                'sh',
                '-c',
                'rm -rf /var/vcap/data/kms-plugin/* /opt/acme/run/* /var/vcap/store/kms-plugin/*',
              ]),
            );
          }
        }));
    }
  });
}
