import { statSync, type Stats } from 'node:fs';
import path from 'node:path';
import type { Config } from '../../config/index.ts';
import type { Facts } from '../facts.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';
import { AS_OWNER, octal, RESTART } from '../words.ts';

const SHARED = 0o077;
const BY_ALL = 0o004;
const WRITABLE_BY_OTHERS = 0o002;
const STICKY = 0o1000;

/** Owners and modes of what must be the plugin's alone. What is missing, configuration names. */
export const files: Check = {
  name: 'files',
  async run(facts) {
    const { place } = facts;
    if (place === undefined) return [unseen('the configuration does not say which')];
    if (look(place.stateDir) === undefined) return [absent(facts, place.stateDir)];
    const user = (await facts.pluginProcess())?.user ?? process.geteuid?.() ?? 0;
    const secrets = facts.config === undefined ? [] : secretFiles(facts.config);
    const troubles = [...stateDirTroubles(place.stateDir, user), ...secrets.flatMap((each) => secretTroubles(each))];
    if (troubles.length > 0) return troubles;
    const looked = ['state_dir', ...secrets.map(({ property }) => property)].join(', ');
    return [ok(`owners and modes are good: ${looked}`)];
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

/** Before the first start there is none; under a service that runs it must not go. */
function absent(facts: Facts, stateDir: string): Finding {
  const serves = facts.config?.listeners.some(
    ({ endpoint }) => facts.listenersAt(endpoint.kind === 'path' ? endpoint.path : `@${endpoint.name}`).length > 0,
  );
  if (serves !== true) return unseen(`state_dir ${stateDir} is not there yet`, 'the first start makes it');
  const mend = `${RESTART}; what it remembered is lost: the PIN is tried once more, keys with create: true may be made again`;
  return failure(`state_dir ${stateDir} was removed under the running service`, mend);
}

function stateDirTroubles(stateDir: string, user: number): Finding[] {
  const found = look(stateDir);
  if (found === undefined) return [];
  const troubles: Finding[] = [];
  if (found.uid !== user) {
    const seen = `state_dir ${stateDir} belongs to user ${found.uid}, and the plugin runs as user ${user}`;
    troubles.push(
      failure(
        seen,
        user === process.geteuid?.() ? `chown -R ${user} ${stateDir}, or ${AS_OWNER}` : `chown -R ${user} ${stateDir}`,
      ),
    );
  }
  if ((found.mode & SHARED) !== 0) {
    const seen = `state_dir ${stateDir} has mode ${octal(found.mode)}: others reach the control socket and the PIN memory`;
    troubles.push(failure(seen, `chmod 0700 ${stateDir}`));
  }
  return troubles;
}

function secretTroubles({ property, file }: SecretFile): Finding[] {
  const found = look(file);
  if (found === undefined) return [];
  if ((found.mode & BY_ALL) !== 0) {
    return [
      failure(
        `${property} ${file} has mode ${octal(found.mode)}: every user can read it`,
        `chmod o-rwx ${file}, and make a new secret if others have been on this host`,
      ),
    ];
  }
  const directory = path.dirname(file);
  const open = [file, directory].find((each) => {
    const mode = look(each)?.mode ?? 0;
    return (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0;
  });
  return open === undefined
    ? []
    : [failure(`${property}: every user can write to ${open} and so replace it`, `chmod o-w ${open}`)];
}

function look(file: string): Stats | undefined {
  try {
    return statSync(file);
  } catch {
    return undefined;
  }
}
