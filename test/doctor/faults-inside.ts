/** Faults from the token process to the keys in the HSM. */
import { execFileSync } from 'node:child_process';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import { keyOf, type Raw } from '../config/fixtures.ts';
import type { Faults } from '../module/index.ts';
import type { Fault } from './fault.ts';
import type { Place } from './place.ts';

/** The module does this from now on, and the connection is made anew. `reason`: what the plugin ends up with. */
const misbehave = (reason: RegExp, faults: Faults): Pick<Fault, 'seed' | 'undo'> => ({
  seed: async (place) => {
    place.faulty.control(faults);
    await place.newConnection();
    await place.until(({ token }) => token.state !== 'ready' && reason.test(token.reason));
  },
  undo: (place) => place.faulty.control({}),
});

/** The same in a token process that has just begun. */
const inNewProcess = (reason: RegExp, faults: Faults): Pick<Fault, 'seed' | 'undo'> => ({
  seed: async (place) => {
    place.faulty.control(faults);
    await place.newTokenProcess();
    await place.until(({ token }) => token.state !== 'ready' && reason.test(token.reason));
  },
  // The pauses between processes grow with each that ends.
  undo: async (place) => {
    place.faulty.control({});
    await place.restart();
  },
});

/** Another active key: the ones that are unfit are on the token from the start. */
const activeKey = (label: string, more: object = {}): Pick<Fault, 'seed' | 'undo'> => ({
  seed: async (place) => {
    await place.reload((raw) => Object.assign(keyOf(raw, 0), { label }, more));
    await place.until(({ keys }) => keys[0]?.label === label);
  },
  undo: (place) => place.reload(),
});

/** A token that needs a restart to be set otherwise. */
const otherToken = (change: (raw: Raw, place: Place) => void): Pick<Fault, 'seed' | 'undo'> => ({
  seed: async (place) => {
    await place.restart((raw) => change(raw, place));
    await place.until(({ token }) => token.state === 'away');
  },
  undo: (place) => place.restart(),
});

const processes: readonly Fault[] = [
  {
    seeded: 'a module that crashes whenever it is loaded',
    check: 'token process',
    names: /the token process ended|keeps ending the token process/,
    mend: /the vendor's module ends the process/,
    ...inNewProcess(/keeps ending/, { rules: [{ on: 'C_Initialize', crash: 'segv' }] }),
  },
  {
    seeded: 'a module that hangs in every call',
    check: 'token process',
    names: /no call comes back from the PKCS#11 module: it hangs/,
    mend: /look at the HSM and the vendor's client log/,
    seed: (place) => place.faulty.control({ rules: [{ on: '*', stall: true }] }),
    undo: (place) => place.faulty.control({}),
  },
  {
    seeded: 'the token process stopped (kill -STOP)',
    check: 'token process',
    names: /process \d+ is stopped/,
    mend: /kill -9/,
    seed: async (place) => void process.kill(await place.tokenPid(), 'SIGSTOP'),
    undo: async (place) => void process.kill(await place.tokenPid(), 'SIGCONT'),
  },
];

const modules: readonly Fault[] = [
  {
    seeded: 'a module that is no library, but a text',
    check: 'module',
    names: /module\.so is no shared library \(no ELF file\)/,
    mend: /PKCS#11 library/,
    ...otherToken((raw) => (raw.token['module'] = 'module.so')),
  },
  {
    seeded: 'a module that needs a library which is not installed',
    check: 'module',
    names: /needs what this host lacks: libvendor-gone\.so/,
    mend: /LD_LIBRARY_PATH/,
    ...otherToken((raw, place) => {
      compile(place, 'libvendor-gone.so', 'int gone(void) { return 0; }');
      const code = 'int gone(void); int C_GetFunctionList(void) { return gone(); }';
      compile(place, 'needy.so', code, '-L', place.installation.fixture.directory, '-lvendor-gone');
      rmSync(place.at('libvendor-gone.so'));
      raw.token['module'] = 'needy.so';
    }),
  },
  {
    seeded: 'a library that is no PKCS#11 module',
    check: 'module',
    names: /dlopen|C_GetFunctionList/,
    mend: /PKCS#11 library of the HSM/,
    ...otherToken((raw, place) => {
      compile(place, 'other.so', 'int other(void) { return 0; }');
      raw.token['module'] = 'other.so';
    }),
  },
  {
    seeded: 'a module whose C_Initialize fails',
    check: 'module',
    names: /C_Initialize.*CKR_GENERAL_ERROR/,
    mend: /token\.environment/,
    ...inNewProcess(/C_Initialize/, { rules: [{ on: 'C_Initialize', answer: 'CKR_GENERAL_ERROR' }] }),
  },
];

function compile(place: Place, name: string, code: string, ...flags: string[]): void {
  place.write(place.at('code.c'), code);
  execFileSync('gcc', ['-shared', '-fPIC', '-o', place.at(name), place.at('code.c'), ...flags]);
}

const tokens: readonly Fault[] = [
  {
    seeded: 'the label of a partition that is not there',
    check: 'token',
    names: /no token with label "credhup".*the module shows "credhub"/,
    mend: /correct token\.partition/,
    ...otherToken((raw) => (raw.token['partition'] = { label: 'credhup' })),
  },
  {
    seeded: 'the HSM gone (CKR_DEVICE_REMOVED)',
    check: 'token',
    names: /CKR_(DEVICE_REMOVED|TOKEN_NOT_PRESENT)/,
    mend: /HSM/,
    ...misbehave(/CKR_TOKEN_NOT_PRESENT/, { removed: {} }),
  },
  {
    seeded: 'an HSM that answers CKR_DEVICE_ERROR to everything',
    check: 'token',
    names: /C_OpenSession.*CKR_DEVICE_ERROR/,
    mend: /the vendor's own tool/,
    ...misbehave(/C_OpenSession/, { rules: [{ on: 'C_OpenSession', answer: 'CKR_DEVICE_ERROR' }] }),
  },
  {
    seeded: 'a token with one try of its PIN left (CKF_USER_PIN_FINAL_TRY)',
    check: 'token',
    names: /one more wrong PIN locks the token/,
    mend: /log in once with the HSM's own tool/,
    ...misbehave(/last try/, { tokenInfo: { set: ['CKF_USER_PIN_FINAL_TRY'] } }),
    undo: async (place) => {
      // Otherwise its flags are looked at again after a minute.
      place.faulty.control({});
      await place.restart();
    },
  },
  {
    seeded: 'a token whose PIN is locked (CKF_USER_PIN_LOCKED)',
    check: 'token',
    names: /has locked its user PIN/,
    mend: /security officer unlock it/,
    ...misbehave(/locked/, { tokenInfo: { set: ['CKF_USER_PIN_LOCKED'] } }),
    undo: async (place) => {
      // Otherwise its flags are looked at again after a minute.
      place.faulty.control({});
      await place.restart();
    },
  },
];

const logins: readonly Fault[] = [
  {
    seeded: 'a wrong PIN in the PIN file',
    check: 'login',
    names: /refused the PIN with CKR_PIN_INCORRECT/,
    mend: /put the right PIN into pin_file/,
    seed: async (place) => {
      place.write(place.at('pin'), 'wrong-pin');
      await place.newConnection();
      await place.until(({ token }) => token.state === 'refused');
    },
    undo: async (place) => {
      place.write(place.at('pin'), place.installation.hsm.pin);
      await place.control().clearPins();
    },
  },
  {
    seeded: 'a wrong PIN in a PIN file that every user can read',
    check: 'login',
    names: /refused the PIN with CKR_PIN_INCORRECT/,
    mend: /put the right PIN into pin_file/,
    seed: async (place) => {
      place.write(place.at('pin'), 'wrong-pin');
      chmodSync(place.at('pin'), 0o644);
      await place.newConnection();
      await place.until(({ token }) => token.state === 'refused');
    },
    undo: async (place) => {
      chmodSync(place.at('pin'), 0o600);
      place.write(place.at('pin'), place.installation.hsm.pin);
      await place.control().clearPins();
    },
  },
  {
    seeded: 'a damaged memory of PINs',
    check: 'login',
    names: /PIN memory|pin-memory.* damaged/,
    mend: /kms-plugin pin clear/,
    seed: async (place) => {
      renameSync(place.at('state/pin-memory'), place.at('state/aside'));
      place.write(place.at('state/pin-memory'), Buffer.alloc(65_536, 0xff));
      await place.newConnection();
      await place.until(({ token }) => token.state === 'refused');
    },
    undo: async (place) => {
      renameSync(place.at('state/aside'), place.at('state/pin-memory'));
      await place.restart();
    },
  },
  {
    seeded: 'an HSM that fails during the login (CKR_DEVICE_ERROR from C_Login)',
    check: 'login',
    names: /C_Login.*CKR_DEVICE_ERROR/,
    mend: /said nothing about the PIN/,
    ...misbehave(/C_Login/, { rules: [{ on: 'C_Login', answer: 'CKR_DEVICE_ERROR' }] }),
  },
];

const keys: readonly Fault[] = [
  {
    seeded: 'an active key that the token does not hold',
    check: 'key',
    names: /key-2030 \(active\): .*no AES key/,
    mend: /restore it from the HSM's backup/,
    ...activeKey('key-2030'),
  },
  {
    seeded: 'two keys under the label of the active one',
    check: 'key',
    names: /twice \(active\): .*(2|two) keys/,
    mend: /choose the one that encrypts with key_id/,
    ...activeKey('twice'),
  },
  {
    seeded: 'an active key that can be taken out of the HSM',
    check: 'key',
    names: /loose \(active\).*CKA_(EXTRACTABLE|SENSITIVE)/,
    mend: /allow_unsafe/,
    ...activeKey('loose'),
  },
  {
    seeded: 'an active key that may not encrypt',
    check: 'key',
    names: /silent \(active\).*CKA_ENCRYPT is false/,
    mend: /list a key that may encrypt/,
    ...activeKey('silent'),
  },
  {
    seeded: 'an active key of another size than configured',
    check: 'key',
    names: /small \(active\).*128 bits where `size` says 256/,
    mend: /set size to what the key has/,
    ...activeKey('small'),
  },
];

const calls: readonly Fault[] = [
  {
    seeded: 'an HSM that decrypts to something else',
    check: 'round trip',
    names: /another value came back than was encrypted/,
    mend: /stop clients from writing/,
    seed: (place) => place.faulty.control({ rules: [{ on: 'C_Decrypt', garbage: true }] }),
    undo: (place) => place.faulty.control({}),
  },
];

export const FAULTS_INSIDE: readonly Fault[] = [...processes, ...modules, ...tokens];

export const FAULTS_OF_LOGIN_AND_KEYS: readonly Fault[] = [...logins, ...keys, ...calls];
