// Writes ops-files/: the same steps for three manifests that differ in names only, hence one source.
//   node scripts/generate-ops-files.mjs            writes them
//   node scripts/generate-ops-files.mjs --check    says which are not as they would be written, and then fails
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const SOCKET = '/var/vcap/sys/run/kms-plugin/kms-plugin.sock';
const HOST = 'kms-plugin.internal';
const MAGIC = '8b48534d4b4d530a';

const manifests = [
  {
    directory: 'cf-deployment',
    title: 'cf-deployment v58 (instance group credhub, provider internal-provider)',
    group: 'credhub',
    internal: 'internal-provider',
    release: ['version: latest'],
    errand: true,
    deploy: (files) => `bosh -d cf deploy cf-deployment.yml ${files}`,
    ssh: 'bosh -d cf ssh credhub',
    database: 'mysql',
  },
  {
    directory: 'bosh-deployment',
    title: 'bosh-deployment, after its ops file credhub.yml (instance group bosh, provider internal)',
    group: 'bosh',
    internal: 'internal',
    release: ['url: file://((hsm_kms_plugin_release))'],
    errand: false,
    deploy: (files) =>
      `bosh create-env bosh.yml -o CPI.yml -o uaa.yml -o credhub.yml ${files} -v hsm_kms_plugin_release=/path/to/hsm-kms-plugin.tgz ...`,
    check:
      'Check:     scripts/check-manifest with the same arguments: bosh create-env deletes the VM before it looks at properties.',
    ssh: 'ssh to the Director (jumpbox-user.yml)',
    database: 'postgres',
  },
  {
    directory: 'credhub-release',
    title:
      "credhub-release's sample manifests and the CredHub documentation's example (instance group credhub, provider int)",
    group: 'credhub',
    internal: 'int',
    release: ['version: latest'],
    errand: true,
    deploy: (files) => `bosh -d credhub deploy credhub-jammy.yml ${files}`,
    ssh: 'bosh -d credhub ssh credhub',
    database: 'postgres',
  },
];

const sql = {
  postgres: (sign) =>
    `SELECT count(*) FROM encrypted_value WHERE substring(encrypted_value from 1 for 8) ${sign} '\\x${MAGIC}';`,
  mysql: (sign) => `SELECT count(*) FROM encrypted_value WHERE LEFT(encrypted_value, 8) ${sign} x'${MAGIC}';`,
};

const ROTATED = 'Finished encryption key rotation in N milliseconds. Details: Successfully rotated N item(s)';
const many = ({ errand }) =>
  errand
    ? [
        '           With several CredHub instances, those not updated yet cannot read what the updated ones have moved: stop all',
        '           but the bootstrap instance before, start them afterwards (docs/migrate.md, "Several instances").',
      ]
    : [];

/** One operation; the value is text, indented here. */
function replace(at, value) {
  const lines = String(value).split('\n');
  return lines.length === 1 && !/^\w+: /.test(value)
    ? `- type: replace\n  path: ${at}\n  value: ${value}`
    : `- type: replace\n  path: ${at}\n  value:\n${lines.map((line) => (line === '' ? '' : `    ${line}`)).join('\n')}`;
}
const remove = (at) => `- type: remove\n  path: ${at}`;

const paths = ({ group }) => ({
  group: `/instance_groups/name=${group}`,
  jobs: `/instance_groups/name=${group}/jobs`,
  plugin: `/instance_groups/name=${group}/jobs/name=kms-plugin/properties/kms-plugin`,
  encryption: `/instance_groups/name=${group}/jobs/name=credhub/properties/credhub/encryption`,
});

function enable(manifest) {
  const { jobs, encryption } = paths(manifest);
  return [
    replace('/releases/-', ['name: hsm-kms-plugin', ...manifest.release].join('\n')),
    '# Before CredHub, so that monit starts the plugin first.',
    replace(
      `${jobs}/name=credhub:before`,
      `name: kms-plugin
release: hsm-kms-plugin
properties:
  kms-plugin:
    socket_endpoint: ${SOCKET}
    host: ${HOST}
    tls: ((kms_plugin_tls))
    keys:
    - label: credhub-1
      state: active
      # For the first deployment only: afterwards remove this line and deploy again. A key that is lost must come
      # back from the HSM's backup; a new one under its name reads nothing.
      create: true`,
    ),
    ...(manifest.errand ? [replace(`${jobs}/-`, 'name: kms-plugin-smoke-tests\nrelease: hsm-kms-plugin')] : []),
    replace(
      `${encryption}/providers/-`,
      `name: kms-plugin
type: kms-plugin
connection_properties:
  endpoint: ${SOCKET}
  host: ${HOST}
  ca: ((kms_plugin_tls.ca))`,
    ),
    '# CredHub wants a name here and sends it nowhere: the plugin knows its keys.',
    replace(
      `${encryption}/keys/-`,
      `provider_name: kms-plugin
key_properties:
  encryption_key_name: hsm
active: true`,
    ),
    '# Kept, so that CredHub can read what it has not moved yet.',
    replace(`${encryption}/keys/provider_name=${manifest.internal}/active?`, 'false'),
    replace(
      '/variables?/-',
      `name: kms_plugin_ca
type: certificate
update_mode: converge
options:
  is_ca: true
  common_name: kms-plugin CA
  duration: 3650`,
    ),
    replace(
      '/variables/-',
      `name: kms_plugin_tls
type: certificate
update_mode: converge
options:
  ca: kms_plugin_ca
  common_name: ${HOST}
  alternative_names:
  - ${HOST}
  extended_key_usage:
  - server_auth
  duration: 1825`,
    ),
  ];
}

const hsms = {
  softhsm2: {
    title: 'SoftHSM2: a trial, with the key in a file on the persistent disk and not in hardware',
    variables: 'none: the PIN is generated',
    operations: (manifest) => {
      const { group, plugin } = paths(manifest);
      return [
        '# One instance: each VM would hold another key over one database.',
        ...(manifest.directory === 'bosh-deployment'
          ? []
          : [replace(`${group}/instances`, '1'), replace(`${group}/persistent_disk?`, '1024')]),
        replace(`${plugin}/hsm?`, 'softhsm2'),
        replace(`${plugin}/softhsm2?`, 'pin: ((kms_plugin_hsm_pin))'),
        replace(`${plugin}/keys/0/create?`, 'true'),
        replace('/variables/-', 'name: kms_plugin_hsm_pin\ntype: password'),
      ];
    },
  },
  luna: {
    title: "Thales Luna, with the fields of CredHub's own hsm provider",
    variables:
      'hsm_partition, hsm_partition_password, hsm_client_certificate, hsm_client_key,\nand hsm_servers, a list of {host, port, partition_serial_number, certificate}',
    operations: (manifest) => [
      replace(`${paths(manifest).plugin}/hsm?`, 'luna'),
      replace(
        `${paths(manifest).plugin}/luna?`,
        `partition: ((hsm_partition))
partition_password: ((hsm_partition_password))
client_certificate: ((hsm_client_certificate))
client_key: ((hsm_client_key))
servers: ((hsm_servers))`,
      ),
    ],
  },
  cloudhsm: {
    title: 'AWS CloudHSM, Client SDK 5',
    variables:
      "cloudhsm_user, cloudhsm_password, cloudhsm_ca (the cluster's customerCA.crt), cloudhsm_servers, a list of {host},\nand cloudhsm_module, where the library is: /opt/cloudhsm/lib/libcloudhsm_pkcs11.so, or in a package made with\nscripts/add-hsm-client",
    operations: (manifest) => [
      replace(`${paths(manifest).plugin}/hsm?`, 'cloudhsm'),
      replace(`${paths(manifest).plugin}/module?`, '((cloudhsm_module))'),
      replace(
        `${paths(manifest).plugin}/cloudhsm?`,
        `user: ((cloudhsm_user))
password: ((cloudhsm_password))
hsm_ca_certificate: ((cloudhsm_ca))
servers: ((cloudhsm_servers))`,
      ),
    ],
  },
  nshield: {
    title: 'Entrust nShield, whose client and hardserver are on the VM under /opt/nfast',
    variables: 'nshield_partition (the label of the card set or softcard), nshield_pin',
    operations: (manifest) => [
      replace(`${paths(manifest).plugin}/hsm?`, 'nshield'),
      replace(
        `${paths(manifest).plugin}/nshield?`,
        `partition: ((nshield_partition))
pin: ((nshield_pin))
variables:
  CKNFAST_LOADSHARING: 1`,
      ),
    ],
  },
  generic: {
    title: 'any other HSM with a PKCS#11 library',
    variables:
      'pkcs11_module (the path of the library on the VM), pkcs11_partition (the label of the token), pkcs11_pin',
    operations: (manifest) => [
      replace(`${paths(manifest).plugin}/hsm?`, 'generic'),
      replace(`${paths(manifest).plugin}/module?`, '((pkcs11_module))'),
      replace(
        `${paths(manifest).plugin}/generic?`,
        `partition:
  label: ((pkcs11_partition))
pin: ((pkcs11_pin))`,
      ),
    ],
  },
};

const enableHeader = (manifest, files, before) => [
  "Moves CredHub's encryption key into an HSM: adds the plugin beside CredHub, makes its key the active one, and keeps",
  'the internal key, so that CredHub, while it serves, re-encrypts every stored value with the new key.',
  '',
  `Before:    ${before}`,
  `Deploy:    ${manifest.deploy(files)}`,
  ...many(manifest),
  'It worked: CredHub logs, once on each instance,',
  `             ${ROTATED}`,
  '           and in its database this returns 0:',
  `             ${sql[manifest.database]('<>')}`,
  '           Values that have not moved stay readable meanwhile.',
  'After:     remove create: true; when all is well for long enough, kms-only.yml.',
  'Go back:   back-out.yml after this file.',
];

const internalOnlyHeader = (manifest, opsFiles) => [
  '',
  'Before:    back-out.yml, deployed, and its SQL returned 0: values still under the HSM key would be out of sight.',
  `Deploy:    ${manifest.deploy(opsFiles)}`,
  'It worked: CredHub starts and serves, and in its database this returns 1:',
  '             SELECT count(*) FROM encryption_key_canary;',
  'After:     keep the HSM key as long as any database backup was made while it was in use.',
  'Go back:   deploy without this file.',
];

function internalOnly(manifest) {
  const { jobs, encryption } = paths(manifest);
  return [
    remove(`${encryption}/keys/provider_name=kms-plugin`),
    remove(`${encryption}/providers/name=kms-plugin`),
    remove(`${jobs}/name=kms-plugin`),
    ...(manifest.errand ? [remove(`${jobs}/name=kms-plugin-smoke-tests`)] : []),
    remove('/releases/name=hsm-kms-plugin'),
    remove('/variables/name=kms_plugin_tls'),
    remove('/variables/name=kms_plugin_ca'),
  ];
}

const files = {
  'enable.yml': (manifest) => ({
    header: enableHeader(
      manifest,
      '-o enable.yml -o partition-HSM.yml',
      'upload the release; choose the HSM: this file and one of partition-*.yml, or enable-HSM.yml, which is both',
    ),
    operations: enable(manifest),
  }),
  'back-out.yml': (manifest) => {
    const { encryption } = paths(manifest);
    return {
      header: [
        "Moves everything back: CredHub's internal key is active again, and the plugin's is kept until CredHub, while it",
        'serves, has re-encrypted every value.',
        '',
        'Before:    enable.yml and partition-*.yml, and not kms-only.yml; the HSM must be there to be read.',
        `Deploy:    ${manifest.deploy('-o enable.yml -o partition-HSM.yml -o back-out.yml')}`,
        ...many(manifest),
        `It worked: CredHub logs "${ROTATED}",`,
        '           and in its database this returns 0:',
        `             ${sql[manifest.database]('=')}`,
        'After:     internal-only.yml.',
        'Go back:   deploy without this file.',
      ],
      operations: [
        replace(`${encryption}/keys/provider_name=${manifest.internal}/active?`, 'true'),
        replace(`${encryption}/keys/provider_name=kms-plugin/active?`, 'false'),
      ],
    };
  },
  'internal-only.yml': (manifest) => ({
    header: [
      'Takes the plugin away, for manifests that have enable.yml worked in; others just leave the ops files out. After a trial',
      'with SoftHSM2: internal-only-softhsm2.yml.',
      ...internalOnlyHeader(manifest, '-o enable.yml -o partition-HSM.yml -o back-out.yml -o internal-only.yml'),
    ],
    operations: internalOnly(manifest),
  }),
  'internal-only-softhsm2.yml': (manifest) => ({
    header: [
      `internal-only.yml after the trial with SoftHSM2: also takes the PIN${manifest.errand ? ', the persistent disk and the one instance' : ''} away.`,
      ...(manifest.errand ? ['Variable:  credhub_instances, the number that you had before: the trial sets 1.'] : []),
      ...internalOnlyHeader(
        manifest,
        `-o enable-softhsm2.yml -o back-out.yml -o internal-only-softhsm2.yml${manifest.errand ? ' -v credhub_instances=2' : ''}`,
      ),
    ],
    operations: [
      ...internalOnly(manifest),
      remove('/variables/name=kms_plugin_hsm_pin'),
      ...(manifest.errand
        ? [
            remove(`${paths(manifest).group}/persistent_disk`),
            replace(`${paths(manifest).group}/instances`, '((credhub_instances))'),
          ]
        : []),
    ],
  }),
  'kms-only.yml': (manifest) => {
    const { encryption } = paths(manifest);
    return {
      header: [
        "Takes the internal key away from CredHub, so that nothing outside the HSM decrypts its values. The key's variable",
        'stays: database backups from before the move need it.',
        '',
        'Before:    enable.yml, deployed, and its SQL returned 0: CredHub would not start, or not see values, otherwise.',
        `Deploy:    ${manifest.deploy('-o enable.yml -o partition-HSM.yml -o kms-only.yml')}`,
        'It worked: CredHub starts and serves, and in its database this returns 1:',
        '             SELECT count(*) FROM encryption_key_canary;',
        'Go back:   deploy without this file.',
      ],
      operations: [
        remove(`${encryption}/keys/provider_name=${manifest.internal}`),
        remove(`${encryption}/providers/name=${manifest.internal}`),
      ],
    };
  },
  'stage-hsm-key.yml': (manifest) => {
    const { plugin } = paths(manifest);
    return {
      header: [
        'First of two deployments that change the HSM key: every instance learns to decrypt with the new key, none encrypts',
        'with it yet. Variable: kms_plugin_next_key, the label of the new key.',
        '',
        'Before:    make the key, on one instance only, whatever their number:',
        '             sudo /var/vcap/jobs/kms-plugin/bin/kms-plugin keys create credhub-2',
        '           or with the tools of the HSM.',
        `Deploy:    ${manifest.deploy('-o enable.yml -o partition-HSM.yml -o stage-hsm-key.yml -v kms_plugin_next_key=credhub-2')}`,
        'It worked: on every instance this shows both keys, the new one everywhere with the same id:',
        '             sudo /var/vcap/jobs/kms-plugin/bin/kms-plugin keys list',
        'After:     activate-hsm-key.yml.',
        'Go back:   deploy without this file.',
      ],
      operations: [
        replace(`${plugin}/keys/0/create?`, 'false'),
        replace(`${plugin}/keys/-`, 'label: ((kms_plugin_next_key))\nstate: decrypt'),
      ],
    };
  },
  'activate-hsm-key.yml': (manifest) => {
    const { plugin } = paths(manifest);
    return {
      header: [
        'Second of two deployments that change the HSM key: what is written from now on is written with the new key. The old',
        "key stays listed: CredHub's canary and all older values are under it, until a full round trip through the internal",
        'key (docs/rotate.md).',
        '',
        'Before:    stage-hsm-key.yml, deployed on all instances, and `keys list` on each shows the new key.',
        `Deploy:    ${manifest.deploy('-o enable.yml -o partition-HSM.yml -o stage-hsm-key.yml -o activate-hsm-key.yml -v kms_plugin_next_key=credhub-2')}`,
        'It worked: on every instance `keys list` shows the new key as active.',
        'After:     work the list of keys into your own ops file; this one is for the first change of key.',
        'Go back:   deploy without this file; both keys stay listed, so nothing is lost.',
      ],
      operations: [replace(`${plugin}/keys/0/state`, 'decrypt'), replace(`${plugin}/keys/1/state`, 'active')],
    };
  },
  ...Object.fromEntries(
    Object.entries(hsms).flatMap(([name, hsm]) => [
      [
        `partition-${name}.yml`,
        (manifest) => ({
          header: [
            `The HSM: ${hsm.title}.`,
            ...`Variables: ${hsm.variables}.`.split('\n').map((line, at) => (at === 0 ? line : `           ${line}`)),
            '',
            'Before:    enable.yml.',
            `Deploy:    ${manifest.deploy(`-o enable.yml -o partition-${name}.yml`)}`,
            'It worked: post-start made a round trip through the socket and the HSM, and so the deployment ended well.',
            'Go back:   as enable.yml says.',
          ],
          operations: hsm.operations(manifest),
        }),
      ],
      [
        `enable-${name}.yml`,
        (manifest) => ({
          header: [
            `enable.yml and partition-${name}.yml in one. The HSM: ${hsm.title}.`,
            ...`Variables: ${hsm.variables}.`.split('\n').map((line, at) => (at === 0 ? line : `           ${line}`)),
            '',
            ...enableHeader(manifest, `-o enable-${name}.yml`, 'upload the release.'),
          ],
          operations: [...enable(manifest), ...hsm.operations(manifest)],
        }),
      ],
    ]),
  ),
};

function written(manifest, make) {
  const { header, operations } = make(manifest);
  const checked = header.flatMap((line) =>
    manifest.check && line.startsWith('Deploy:') ? [manifest.check, line] : [line],
  );
  const comment = [`For ${manifest.title}.`, ...checked].map((line) => (line === '' ? '#' : `# ${line}`));
  return `${comment.join('\n')}\n#\n# Made by scripts/generate-ops-files.mjs: change it there.\n\n${operations.join('\n')}\n`;
}

const check = process.argv.includes('--check');
const stale = [];
for (const manifest of manifests) {
  const directory = path.join(root, 'ops-files', manifest.directory);
  if (!check) mkdirSync(directory, { recursive: true });
  const names = Object.keys(files);
  for (const there of existsSync(directory) ? readdirSync(directory) : []) {
    if (names.includes(there)) continue;
    if (check) stale.push(path.join(directory, there));
    else rmSync(path.join(directory, there));
  }
  for (const name of names) {
    const file = path.join(directory, name);
    const text = written(manifest, files[name]);
    if (!check) writeFileSync(file, text);
    else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) stale.push(file);
  }
}
for (const file of stale)
  console.error(`${path.relative(root, file)} is not what scripts/generate-ops-files.mjs writes`);
process.exitCode = stale.length > 0 ? 1 : 0;
