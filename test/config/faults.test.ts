/** One test for each fault: exactly one problem, with this property and this word in its mend. */
import assert from 'node:assert/strict';
import { chmodSync, symlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { stringify } from 'yaml';
import { checkConfig } from '../../src/config/index.ts';
import { Fixture, keyOf, listenerOf, tlsOf, type Raw } from './fixtures.ts';

const fixture = new Fixture();
const ID = '0123456789abcdef0123456789abcdef';

interface FaultCase {
  readonly fault: string;
  readonly change: (raw: Raw) => void;
  readonly property: string;
  readonly trouble?: RegExp;
  readonly mend: RegExp;
}

function faults(group: string, cases: readonly FaultCase[]): void {
  describe(group, () => {
    for (const { fault, change, property, trouble = /./, mend } of cases) {
      test(fault, () => {
        const raw = fixture.good();
        change(raw);
        const { config, problems } = fixture.check(raw);
        assert.equal(config, undefined);
        assert.deepEqual(
          problems.map((problem) => problem.property),
          [property],
        );
        assert.match(problems[0]?.trouble ?? '', trouble);
        assert.match(problems[0]?.mend ?? '', mend);
      });
    }
  });
}

function without(section: object, name: string): void {
  Reflect.deleteProperty(section, name);
}

const longPath = (bytes: number): string => {
  const start = `${fixture.directory}/`;
  return start + 'x'.repeat(bytes - start.length);
};

faults('names and types', [
  {
    fault: 'an unknown section',
    change: (raw) => (raw['limit'] = {}),
    property: 'limit',
    mend: /did you mean limits\?/,
  },
  {
    fault: 'a name from another spelling',
    change: (raw) => (raw.token['vendorTimeout'] = '20s'),
    property: 'token.vendorTimeout',
    mend: /did you mean vendor_timeout\?/,
  },
  {
    fault: 'an unknown name that resembles none',
    change: (raw) => (raw.token['colour'] = 'red'),
    property: 'token.colour',
    mend: /known here are module, partition/,
  },
  {
    fault: 'the beginning of a name',
    change: (raw) => (tlsOf(raw)['cert'] = 'server.crt'),
    property: 'listeners[0].tls.cert',
    mend: /did you mean certificate\?/,
  },
  {
    fault: 'no state_dir',
    change: (raw) => without(raw, 'state_dir'),
    property: 'state_dir',
    mend: /name a directory/,
  },
  {
    fault: 'no listeners',
    change: (raw) => without(raw, 'listeners'),
    property: 'listeners',
    mend: /at least one socket/,
  },
  {
    fault: 'empty listeners',
    change: (raw) => (raw.listeners = []),
    property: 'listeners',
    mend: /at least one socket/,
  },
  { fault: 'no token', change: (raw) => without(raw, 'token'), property: 'token', mend: /describe the HSM/ },
  { fault: 'no keys', change: (raw) => without(raw, 'keys'), property: 'keys', mend: /key to encrypt with/ },
  { fault: 'empty keys', change: (raw) => (raw.keys = []), property: 'keys', mend: /key to encrypt with/ },
  {
    fault: 'a list where a section belongs',
    change: (raw) => (raw['limits'] = ['10s']),
    property: 'limits',
    trouble: /is a list where a section/,
    mend: /name: value/,
  },
  {
    fault: 'a section where a list belongs',
    change: (raw) => (raw['retired_keys'] = { a: ID }),
    property: 'retired_keys',
    trouble: /is a section where a list/,
    mend: /"- "/,
  },
  {
    fault: 'a section where a text belongs',
    change: (raw) => (raw.token['module'] = { path: 'x' }),
    property: 'token.module',
    trouble: /is a section where a text/,
    mend: /give one text/,
  },
  {
    fault: 'a number where a text belongs',
    change: (raw) => (raw.token['partition'] = { serial: 1234567 }),
    property: 'token.partition.serial',
    trouble: /is a number where a text/,
    mend: /in quotes/,
  },
  {
    fault: 'a text where a number belongs',
    change: (raw) => (raw.token['sessions'] = '16'),
    property: 'token.sessions',
    mend: /without quotes/,
  },
  {
    fault: 'half a session',
    change: (raw) => (raw.token['sessions'] = 1.5),
    property: 'token.sessions',
    mend: /digits only/,
  },
  {
    fault: 'yes, which YAML 1.2 takes for a text',
    change: (raw) => (keyOf(raw, 0)['create'] = 'yes'),
    property: 'keys[0].create',
    mend: /true or false/,
  },
  {
    fault: 'a name without a value',
    change: (raw) => (raw.token['profile'] = null),
    property: 'token.profile',
    trouble: /is empty/,
    mend: /remove the line/,
  },
  {
    fault: 'an empty text',
    change: (raw) => (raw.token['module'] = ''),
    property: 'token.module',
    trouble: /is empty/,
    mend: /./,
  },
]);

faults('listeners', [
  {
    fault: 'no name',
    change: (raw) => without(listenerOf(raw, 0), 'name'),
    property: 'listeners[0].name',
    mend: /such as credhub/,
  },
  {
    fault: 'a name with a blank',
    change: (raw) => (listenerOf(raw, 0)['name'] = 'my listener'),
    property: 'listeners[0].name',
    mend: /letters, digits/,
  },
  {
    fault: 'a name used twice',
    change: (raw) => (listenerOf(raw, 1)['name'] = 'credhub'),
    property: 'listeners[1].name',
    trouble: /listeners\[0\]/,
    mend: /name of its own/,
  },
  {
    fault: 'an endpoint used twice, in two forms',
    change: (raw) => (listenerOf(raw, 1)['endpoint'] = `unix://${fixture.at('run/../run/credhub.sock')}`),
    property: 'listeners[1].endpoint',
    trouble: /listeners\[0\]/,
    mend: /socket of its own/,
  },
  {
    fault: 'no APIs',
    change: (raw) => without(listenerOf(raw, 0), 'apis'),
    property: 'listeners[0].apis',
    mend: /\[v1beta1\] for CredHub/,
  },
  {
    fault: 'an empty list of APIs',
    change: (raw) => (listenerOf(raw, 0)['apis'] = []),
    property: 'listeners[0].apis',
    mend: /list the APIs/,
  },
  {
    fault: 'an unknown API',
    change: (raw) => (listenerOf(raw, 1)['apis'] = ['v1']),
    property: 'listeners[1].apis[0]',
    mend: /did you mean v1beta1\?/,
  },
  {
    fault: 'an API listed twice',
    change: (raw) => (listenerOf(raw, 1)['apis'] = ['v2', 'v2']),
    property: 'listeners[1].apis[1]',
    mend: /once/,
  },
  {
    fault: 'a mode without quotes',
    change: (raw) => (listenerOf(raw, 0)['mode'] = 600),
    property: 'listeners[0].mode',
    trouble: /decimal number 600/,
    mend: /in quotes, such as "0600"/,
  },
  {
    fault: 'a mode that is none',
    change: (raw) => (listenerOf(raw, 0)['mode'] = 'u=rw'),
    property: 'listeners[0].mode',
    mend: /octal/,
  },
  {
    fault: 'a mode with more than permissions',
    change: (raw) => (listenerOf(raw, 0)['mode'] = '4600'),
    property: 'listeners[0].mode',
    mend: /octal/,
  },
  {
    fault: 'a mode that shuts everybody out',
    change: (raw) => (listenerOf(raw, 0)['mode'] = '0400'),
    property: 'listeners[0].mode',
    mend: /0600/,
  },
  {
    fault: 'patience without a unit',
    change: (raw) => (listenerOf(raw, 0)['patience'] = 300),
    property: 'listeners[0].patience',
    trouble: /without a unit/,
    mend: /such as 10s/,
  },
  {
    fault: 'patience of three days',
    change: (raw) => (listenerOf(raw, 0)['patience'] = '72h'),
    property: 'listeners[0].patience',
    mend: /from 0 to 24h/,
  },
]);

faults('sockets', [
  {
    fault: 'a path that leaves no room for the temporary name',
    change: (raw) => (listenerOf(raw, 0)['endpoint'] = longPath(97)),
    property: 'listeners[0].endpoint',
    trouble: /is 97 bytes long.*107/,
    mend: /at most 96 bytes/,
  },
  {
    fault: 'a directory that is not there',
    change: (raw) => (listenerOf(raw, 0)['endpoint'] = 'nowhere/s.sock'),
    property: 'listeners[0].endpoint',
    trouble: /nowhere does not exist/,
    mend: /make the directory/,
  },
  {
    fault: "a file in the socket's place",
    change: (raw) => (listenerOf(raw, 0)['endpoint'] = fixture.write('run/file', '')),
    property: 'listeners[0].endpoint',
    trouble: /is no socket/,
    mend: /remove that file/,
  },
  ...['unix://run/s.sock', 'unix:run/s.sock', 'tcp://127.0.0.1:1', '@name', 'unix:///@', 'run/', 'a\u0000b'].map(
    (endpoint) => ({
      fault: `the endpoint ${JSON.stringify(endpoint)}`,
      change: (raw: Raw) => (listenerOf(raw, 0)['endpoint'] = endpoint),
      property: 'listeners[0].endpoint',
      mend: /unix:\/\/\/path/,
    }),
  ),
  {
    fault: 'an abstract socket without consent',
    change: (raw) => (listenerOf(raw, 1)['endpoint'] = 'unix:///@kms'),
    property: 'listeners[1].endpoint',
    trouble: /no access control/,
    mend: /allow_unprotected: true/,
  },
  {
    fault: 'an abstract name that is too long',
    change: (raw) =>
      Object.assign(listenerOf(raw, 1), { endpoint: `unix:///@${'n'.repeat(108)}`, allow_unprotected: true }),
    property: 'listeners[1].endpoint',
    mend: /at most 107 bytes/,
  },
  {
    fault: 'a control socket in the directory of a listener',
    change: (raw) => (raw['control_socket'] = 'run/control.sock'),
    property: 'control_socket',
    trouble: /listeners\[0\]\.endpoint/,
    mend: /only the plugin has/,
  },
  {
    fault: 'a control socket in that directory, by a link',
    change: (raw) => {
      symlinkSync(fixture.at('run'), fixture.at('run-link'));
      raw['control_socket'] = 'run-link/control.sock';
    },
    property: 'control_socket',
    mend: /only the plugin has/,
  },
  {
    fault: 'a control socket with a long path',
    change: (raw) => (raw['control_socket'] = longPath(97)),
    property: 'control_socket',
    mend: /96 bytes/,
  },
  {
    fault: "a state directory that makes the control socket's path too long",
    change: (raw) => (raw.state_dir = longPath(90)),
    property: 'control_socket',
    mend: /96 bytes/,
  },
  {
    fault: 'a control socket without its directory',
    change: (raw) => (raw['control_socket'] = 'nowhere/control.sock'),
    property: 'control_socket',
    mend: /make the directory/,
  },
  {
    fault: 'a state directory shared with clients',
    change: (raw) => (raw.state_dir = 'run'),
    property: 'state_dir',
    mend: /only the plugin has/,
  },
  {
    fault: 'a state directory that is a file',
    change: (raw) => (raw.state_dir = 'pin'),
    property: 'state_dir',
    trouble: /no directory/,
    mend: /./,
  },
  {
    fault: 'a state directory that cannot be made',
    change: (raw) => (raw.state_dir = 'nowhere/state'),
    property: 'state_dir',
    trouble: /nowhere does not exist/,
    mend: /make that directory/,
  },
]);

faults('token', [
  {
    fault: 'no module',
    change: (raw) => without(raw.token, 'module'),
    property: 'token.module',
    mend: /PKCS#11 library/,
  },
  {
    fault: 'a module that is a directory',
    change: (raw) => (raw.token['module'] = 'run'),
    property: 'token.module',
    trouble: /is a directory/,
    mend: /./,
  },
  {
    fault: 'no partition',
    change: (raw) => without(raw.token, 'partition'),
    property: 'token.partition',
    mend: /label, serial, slot/,
  },
  {
    fault: 'a partition without a name',
    change: (raw) => (raw.token['partition'] = {}),
    property: 'token.partition',
    mend: /exactly one/,
  },
  {
    fault: 'a partition named twice',
    change: (raw) => (raw.token['partition'] = { label: 'a', slot: 0 }),
    property: 'token.partition',
    trouble: /label, slot/,
    mend: /exactly one/,
  },
  {
    fault: 'a label that no token can have',
    change: (raw) => (raw.token['partition'] = { label: 'x'.repeat(33) }),
    property: 'token.partition.label',
    mend: /at most 32 bytes/,
  },
  {
    fault: 'a slot below zero',
    change: (raw) => (raw.token['partition'] = { slot: -1 }),
    property: 'token.partition.slot',
    mend: /from 0/,
  },
  {
    fault: 'a slot that no CK_ULONG holds',
    change: (raw) => (raw.token['partition'] = { slot: 2n ** 64n }),
    property: 'token.partition.slot',
    trouble: /^is 18446744073709551616$/,
    mend: /from 0 to 18446744073709551615$/,
  },
  {
    fault: 'a slot with a fraction',
    change: (raw) => (raw.token['partition'] = { slot: 1.5 }),
    property: 'token.partition.slot',
    mend: /digits only/,
  },
  {
    fault: 'a number that no setting takes',
    change: (raw) => (raw.token['sessions'] = 2n ** 64n),
    property: 'token.sessions',
    trouble: /^is 18446744073709551616$/,
    mend: /from 1 to 128/,
  },
  {
    fault: 'a key that nothing names',
    change: (raw) => (raw.keys[0] = { state: 'active' }),
    property: 'keys[0].label',
    mend: /label on the token, or the cka_id/,
  },
  {
    fault: 'a CKA_ID that is not in hex digits',
    change: (raw) => Object.assign(raw.keys[0] ?? {}, { cka_id: 'abc' }),
    property: 'keys[0].cka_id',
    mend: /hex digits, in quotes/,
  },
  {
    fault: 'an unknown login',
    change: (raw) => (raw.token['login'] = 'root'),
    property: 'token.login',
    mend: /user or none/,
  },
  {
    fault: 'a login as security officer',
    change: (raw) => (raw.token['login'] = 0),
    property: 'token.login',
    mend: /0x80000000/,
  },
  {
    fault: 'no PIN file',
    change: (raw) => without(raw.token, 'pin_file'),
    property: 'token.pin_file',
    mend: /login: none/,
  },
  {
    fault: 'a PIN file that is not there',
    change: (raw) => (raw.token['pin_file'] = 'run/pin'),
    property: 'token.pin_file',
    trouble: /run\/pin.*does not exist/,
    mend: /holds the PIN/,
  },
  {
    fault: 'an empty PIN file',
    change: (raw) => (raw.token['pin_file'] = fixture.write('empty', '')),
    property: 'token.pin_file',
    mend: /printf/,
  },
  {
    fault: 'a PIN file that ends in a line feed',
    change: (raw) => (raw.token['pin_file'] = fixture.write('pin-lf', '1234\n')),
    property: 'token.pin_file',
    trouble: /line feed/,
    mend: /pin_file_newline.*keep.*strip/,
  },
  {
    fault: 'a PIN file with nothing but the line feed to strip',
    change: (raw) => Object.assign(raw.token, { pin_file: fixture.write('lf', '\n'), pin_file_newline: 'strip' }),
    property: 'token.pin_file',
    trouble: /is empty/,
    mend: /printf/,
  },
  {
    fault: 'a PIN file with nothing but a line ending of two bytes to strip',
    change: (raw) => Object.assign(raw.token, { pin_file: fixture.write('crlf', '\r\n'), pin_file_newline: 'strip' }),
    property: 'token.pin_file',
    trouble: /is empty/,
    mend: /printf/,
  },
  ...['efbbbf', 'fffe', 'feff'].map((mark) => ({
    fault: `a PIN file that begins with a byte order mark (${mark})`,
    change: (raw: Raw) =>
      Object.assign(raw.token, {
        pin_file: fixture.write('bom', Buffer.from(`${mark}31323334`, 'hex')),
        pin_file_newline: 'keep',
      }),
    property: 'token.pin_file',
    trouble: /begins with a byte order mark, and a wrong PIN may lock the partition/,
    mend: /without one/,
  })),
  {
    fault: 'a PIN file that is far too large for a PIN',
    change: (raw) => (raw.token['pin_file'] = fixture.write('large', 'x'.repeat(1_025))),
    property: 'token.pin_file',
    trouble: /has 1025 bytes, and a PIN has at most 1024/,
    mend: /nothing else/,
  },
  {
    fault: 'another end of the PIN',
    change: (raw) => (raw.token['pin_file_newline'] = 'trim'),
    property: 'token.pin_file_newline',
    mend: /keep, strip/,
  },
  {
    fault: 'a PIN where the name of its file belongs',
    change: (raw) => (raw.token['pin_file'] = 'hunter2'),
    property: 'token.pin_file',
    trouble: /^names a file that does not exist$/,
    mend: /holds the PIN/,
  },
  {
    fault: 'a key where the name of its file belongs',
    change: (raw) => (tlsOf(raw)['private_key'] = '-----BEGIN PRIVATE KEY-----\nhunter2\n'),
    property: 'listeners[0].tls.private_key',
    trouble: /^holds a line break or control character$/,
    mend: /not its contents/,
  },
  {
    fault: 'an unknown profile',
    change: (raw) => (raw.token['profile'] = 'luna'),
    property: 'token.profile',
    mend: /did you mean luna-fips\?/,
  },
  { fault: 'no sessions', change: (raw) => (raw.token['sessions'] = 0), property: 'token.sessions', mend: /from 1 to/ },
  {
    fault: "an environment variable that is Node's own",
    change: (raw) => (raw.token['environment'] = { NODE_OPTIONS: '--inspect' }),
    property: 'token.environment.NODE_OPTIONS',
    mend: /remove/,
  },
  {
    fault: 'a preloaded library',
    change: (raw) => (raw.token['environment'] = { LD_PRELOAD: '/x.so' }),
    property: 'token.environment.LD_PRELOAD',
    mend: /remove/,
  },
  {
    fault: 'the size of the thread pool',
    change: (raw) => (raw.token['environment'] = { UV_THREADPOOL_SIZE: '4' }),
    property: 'token.environment.UV_THREADPOOL_SIZE',
    mend: /token\.sessions/,
  },
  {
    fault: 'a name that no environment variable can have',
    change: (raw) => (raw.token['environment'] = { 'A=B': 'c' }),
    property: 'token.environment["A=B"]',
    mend: /letters, digits/,
  },
  {
    fault: 'an environment variable that is a number',
    change: (raw) => (raw.token['environment'] = { LEVEL: 3 }),
    property: 'token.environment.LEVEL',
    mend: /in quotes/,
  },
]);

faults('keys', [
  {
    fault: 'no label',
    change: (raw) => without(keyOf(raw, 1), 'label'),
    property: 'keys[1].label',
    mend: /label on the token/,
  },
  { fault: 'no state', change: (raw) => without(keyOf(raw, 1), 'state'), property: 'keys[1].state', mend: /active/ },
  {
    fault: 'an unknown state',
    change: (raw) => (keyOf(raw, 1)['state'] = 'retired'),
    property: 'keys[1].state',
    mend: /active, decrypt/,
  },
  {
    fault: 'two active keys',
    change: (raw) => (keyOf(raw, 1)['state'] = 'active'),
    property: 'keys',
    trouble: /key-2026, key-2024/,
    mend: /state: decrypt/,
  },
  {
    fault: 'no active key',
    change: (raw) => (keyOf(raw, 0)['state'] = 'decrypt'),
    property: 'keys',
    mend: /state: active/,
  },
  {
    fault: 'a label listed twice',
    change: (raw) => (keyOf(raw, 1)['label'] = 'key-2026'),
    property: 'keys[1].label',
    trouble: /keys\[0\]/,
    mend: /key_id/,
  },
  {
    fault: 'a label that ends in a blank',
    change: (raw) => (keyOf(raw, 1)['label'] = 'key '),
    property: 'keys[1].label',
    mend: /remove/,
  },
  {
    fault: 'a short key id',
    change: (raw) => (keyOf(raw, 1)['key_id'] = '0f3a'),
    property: 'keys[1].key_id',
    trouble: /4 characters/,
    mend: /32 hex digits/,
  },
  {
    fault: 'one key id for two keys, in two cases',
    change: (raw) => {
      keyOf(raw, 0)['key_id'] = ID;
      keyOf(raw, 1)['key_id'] = ID.toUpperCase();
    },
    property: 'keys[1].key_id',
    mend: /belongs to one key/,
  },
  {
    fault: 'making a key that exists',
    change: (raw) => Object.assign(keyOf(raw, 0), { create: true, key_id: ID }),
    property: 'keys[0].create',
    mend: /remove create/,
  },
  {
    fault: 'a key size that AES lacks',
    change: (raw) => (keyOf(raw, 0)['size'] = 512),
    property: 'keys[0].size',
    mend: /128, 192, 256/,
  },
  {
    fault: 'a retired key id that is none',
    change: (raw) => (raw['retired_keys'] = [ID, 'xyz']),
    property: 'retired_keys[1]',
    mend: /32 hex digits/,
  },
]);

faults('limits and the rest', [
  {
    fault: 'an unknown unit of time',
    change: (raw) => (raw['limits'] = { hide: '2sec' }),
    property: 'limits.hide',
    mend: /ms, s, m or h/,
  },
  {
    fault: 'a deadline of nothing',
    change: (raw) => (raw['limits'] = { call_deadline: 0 }),
    property: 'limits.call_deadline',
    mend: /such as 10s/,
  },
  {
    fault: 'a decimal unit of size',
    change: (raw) => (raw['limits'] = { value: '1MB' }),
    property: 'limits.value',
    mend: /KiB, MiB/,
  },
  {
    fault: 'a size without unit',
    change: (raw) => (raw['limits'] = { value: 1048576 }),
    property: 'limits.value',
    trouble: /without a unit/,
    mend: /MiB/,
  },
  {
    fault: 'a message that cannot hold a value',
    change: (raw) => (raw['limits'] = { value: '4MiB' }),
    property: 'limits.message',
    mend: /4195328B/,
  },
  {
    fault: 'nothing in flight',
    change: (raw) => (raw['limits'] = { in_flight: 0 }),
    property: 'limits.in_flight',
    mend: /from 1/,
  },
  {
    fault: 'a port out of range',
    change: (raw) => (raw['health'] = { port: 70000 }),
    property: 'health.port',
    mend: /65535/,
  },
  {
    fault: 'a host name for an address',
    change: (raw) => (raw['health'] = { address: 'localhost' }),
    property: 'health.address',
    mend: /127\.0\.0\.1/,
  },
  {
    fault: 'an audit trail in a directory that is not there',
    change: (raw) => (raw['audit'] = { file: 'nowhere/audit.log' }),
    property: 'audit.file',
    trouble: /nowhere, which does not exist/,
    mend: /make that directory/,
  },
  {
    fault: "an audit trail over the PIN's file",
    change: (raw) => (raw['audit'] = { file: 'run/../pin' }),
    property: 'audit.file',
    trouble: /is also token\.pin_file/,
    mend: /for the audit trail alone/,
  },
  {
    fault: 'an audit trail in state_dir',
    change: (raw) => (raw['audit'] = { file: 'state/audit.log' }),
    property: 'audit.file',
    trouble: /is in state_dir/,
    mend: /for the audit trail alone/,
  },
  {
    fault: 'an audit trail that is a directory',
    change: (raw) => (raw['audit'] = { file: 'run' }),
    property: 'audit.file',
    trouble: /run, which is a directory/,
    mend: /for the audit trail alone/,
  },
  {
    fault: 'an unknown log level',
    change: (raw) => (raw['log'] = { level: 'warning' }),
    property: 'log.level',
    mend: /did you mean warn\?/,
  },
  {
    fault: 'an unknown scheme',
    change: (raw) => (raw['scheme'] = { name: 'envelop' }),
    property: 'scheme.name',
    mend: /did you mean envelope\?/,
  },
  {
    fault: 'a scheme that is .nan',
    change: (raw) => (raw['scheme'] = { name: Number.NaN }),
    property: 'scheme.name',
    trouble: /^is \.nan$/,
    mend: /direct, envelope/,
  },
  {
    fault: 'a duration of -.inf',
    change: (raw) => (raw['limits'] = { hide: -Infinity }),
    property: 'limits.hide',
    trouble: /^is the number -\.inf, without a unit$/,
    mend: /such as/,
  },
  {
    fault: 'more values under one data key than random IVs allow',
    change: (raw) => (raw['scheme'] = { name: 'envelope', max_values: 2 ** 32 + 1 }),
    property: 'scheme.max_values',
    mend: /to 4294967296/,
  },
  {
    fault: 'a data key that is used up before the first value',
    change: (raw) => (raw['scheme'] = { name: 'envelope', max_bytes: '64KiB' }),
    property: 'scheme.max_bytes',
    mend: /limits\.value/,
  },
]);

describe('files that may not be read', () => {
  test('each is named, whoever runs this', () => {
    const raw = fixture.good();
    for (const name of ['closed.so', 'closed.crt', 'closed.key', 'closed-ca.crt', 'closed-pin']) {
      chmodSync(fixture.write(name, 'x'), 0);
    }
    raw.token['module'] = 'closed.so';
    raw.token['pin_file'] = fixture.at('closed-pin');
    Object.assign(tlsOf(raw), { certificate: 'closed.crt', private_key: 'closed.key', ca: 'closed-ca.crt' });
    const file = fixture.write('kms-plugin.yml', stringify(raw));
    chmodSync(file, 0o644);
    const { problems } = asOrdinaryUser(() => checkConfig(file));
    assert.deepEqual(
      problems.map(({ property }) => property),
      [
        'listeners[0].tls.certificate',
        'listeners[0].tls.private_key',
        'listeners[0].tls.ca',
        'token.module',
        'token.pin_file',
      ],
    );
    for (const { trouble } of problems) assert.match(trouble, /may not be read/);
  });

  test('a link that leads round in a circle and a device are no files', () => {
    const raw = fixture.good();
    symlinkSync('round', fixture.at('round'));
    raw.token['module'] = 'round';
    raw.token['pin_file'] = '/dev/zero';
    const { problems } = fixture.check(raw);
    assert.deepEqual(
      problems.map(({ property, trouble }) => [property, trouble.replace(/.*, which /, '')]),
      [
        ['token.module', 'is a link that leads round in a circle'],
        ['token.pin_file', 'is no file'],
      ],
    );
  });
});

/** Root may read everything, so root steps down for a moment. */
function asOrdinaryUser<T>(work: () => T): T {
  if (process.geteuid?.() !== 0) return work();
  chmodSync(fixture.directory, 0o755);
  chmodSync(fixture.at('run'), 0o755);
  process.seteuid?.(65534);
  try {
    return work();
  } finally {
    process.seteuid?.(0);
  }
}
