import path from 'node:path';
import type { Config } from '../../config/index.ts';
import { lookThrough } from '../look/files.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';
import { octal } from '../words.ts';

const SHARED = 0o077;
const BY_ALL = 0o004;
const WRITABLE_BY_OTHERS = 0o002;
const STICKY = 0o1000;

/**
 * Who else reaches what is the plugin's and its clients' alone: state_dir, secrets, sockets. It stands after the path of a
 * request: such a fault is grave, but keeps nobody from being served. What is missing, others name.
 */
export const access: Check = {
  name: 'access',
  run({ place, config }) {
    if (place === undefined) return [unseen('the configuration does not say where what is')];
    const secrets = config === undefined ? [] : secretFiles(config);
    const sockets = config === undefined ? [] : socketFiles(config);
    const troubles = [
      ...stateDirTroubles(place.stateDir),
      ...secrets.flatMap(secretTroubles),
      ...sockets.flatMap(socketTroubles),
    ];
    if (troubles.length > 0) return troubles;
    const looked = ['state_dir', ...secrets.map(({ property }) => property), ...sockets.map(({ name }) => name)];
    return [ok(`nobody else reaches ${looked.join(', ')}`)];
  },
};

interface SecretFile {
  readonly property: string;
  readonly file: string;
}

function secretFiles({ token, listeners }: Config): SecretFile[] {
  return [
    ...(token.pinFile === undefined ? [] : [{ property: 'token.pin_file', file: token.pinFile }]),
    ...listeners.flatMap(({ name, tls }) =>
      tls === undefined ? [] : [{ property: `private_key of ${name}`, file: tls.privateKeyFile }],
    ),
  ];
}

interface SocketFile {
  readonly name: string;
  readonly file: string;
  readonly mode: number;
}

/** An abstract socket has no mode: the configuration warns of it. */
function socketFiles({ listeners }: Config): SocketFile[] {
  return listeners.flatMap(({ name, endpoint, mode }) =>
    endpoint.kind === 'path' ? [{ name, file: endpoint.path, mode }] : [],
  );
}

function stateDirTroubles(stateDir: string): Finding[] {
  const mode = modeOf(stateDir);
  if ((mode & SHARED) === 0) return [];
  const seen = `state_dir ${stateDir} has mode ${octal(mode)}: others reach the control socket and the PIN memory`;
  return [failure(seen, `chmod 0700 ${stateDir}`)];
}

function secretTroubles({ property, file }: SecretFile): Finding[] {
  const mode = modeOf(file);
  if ((mode & BY_ALL) !== 0) {
    return [
      failure(
        `${property} ${file} has mode ${octal(mode)}: every user can read it`,
        `chmod o-rwx ${file}, and make a new secret if others have been on this host`,
      ),
    ];
  }
  const open = [file, path.dirname(file)].find(replaceable);
  return open === undefined
    ? []
    : [failure(`${property}: every user can write to ${open} and so replace it`, `chmod o-w ${open}`)];
}

function socketTroubles({ name, file, mode }: SocketFile): Finding[] {
  const there = lookThrough(file);
  if (there.kind !== 'there' || !there.stats.isSocket()) return [];
  const found = modeOf(file);
  if ((found & ~mode & 0o777) !== 0) {
    const seen = `${name}: ${file} has mode ${octal(found)} instead of ${octal(mode)}: others can decrypt`;
    return [failure(seen, `chmod ${octal(mode)} ${file}, and see who changed it`)];
  }
  const directory = path.dirname(file);
  if (!replaceable(directory)) return [];
  const seen = `${name}: ${file}: every user can replace the socket (${directory} has mode ${octal(modeOf(directory))})`;
  return [failure(seen, `chmod o-w ${directory}`)];
}

/** Whether every user can write there, or put something else in the place of what is there. */
function replaceable(file: string): boolean {
  const mode = modeOf(file);
  return (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
}

/** 0 of what is not there, or cannot be seen. */
function modeOf(file: string): number {
  const seen = lookThrough(file);
  return seen.kind === 'there' ? seen.stats.mode : 0;
}
