/** Every piece of dangerous advice, and the fault in which it is safe. A part of the text's own words is its name. */

interface Safe {
  /** A row of docs/doctor-faults.md that has this advice, or a code of docs/errors.md. */
  readonly fault: string;
  /** Why it ends the fault, or loses nothing. */
  readonly why: string;
}

const SOCKET_GONE = "the socket's file removed";
const STUCK = 'CredHub running, but stuck at its start';
const UNSAFE_KEY = 'an active key that can be taken out of the HSM';
const MISSING = 'an active key that the token does not hold';
const FAULTY_THEN_RIGHT = 'a configuration that was faulty when it was read again, and has been put right since';

export const PIECES: Readonly<Record<string, Safe>> = {
  // src/doctor
  "'restart it (BOSH: monit restart kms-plugin)'": { fault: SOCKET_GONE, why: 'only a restart makes the name again' },
  '${RESTART}; never remove the socket': { fault: SOCKET_GONE, why: 'only a restart makes the name again' },
  "'restart the service'": { fault: FAULTY_THEN_RIGHT, why: 'the file has no fault, and the setting needs a restart' },
  'if it hangs then too, keep its log, then ${RESTART}': {
    fault: 'the service hung (kill -STOP)',
    why: 'only after a second look, never on a slow host, never where the kernel says why it waits',
  },
  'stop process ${listening.pid}, and ${RESTART}': {
    fault: 'another program that listens at the path of the socket',
    why: 'no client reaches the plugin there anyway',
  },
  'move it away (mv ${file} ${file}.old), and ${RESTART}': {
    fault: "an ordinary file in the socket's place",
    why: 'the file is kept, and no client reaches the plugin there anyway',
  },
  'mode 0700, and restart plugin and clients (a container keeps the old one)': {
    fault: SOCKET_GONE,
    why: 'the directory is gone: no client reaches the plugin there anyway',
  },
  '${RESTART}; what it remembered is lost': {
    fault: 'state_dir removed under the running service',
    why: 'its locks are gone with the directory; what is lost was lost before, and is said',
  },
  '${RESTART} to take the installed one': {
    fault: 'KMS-2005',
    why: 'an upgrade that was installed, and nothing failing',
  },
  'run the plugin as user ${owner}; only if that is the wrong one: chown -R': {
    fault: 'KMS-1002',
    why: 'the running plugin is of that user: never root that runs doctor',
  },
  "'restart it (BOSH: monit restart credhub); it does not try again by itself'": {
    fault: STUCK,
    why: 'it serves nobody, waits for nothing here, and its wait for the canary is over',
  },
  'mend what fails above, then ${RESTART}': {
    fault: STUCK,
    why: 'as above, and what made its start fail is mended first',
  },
  'keep its log, which says what failed, then ${RESTART}': { fault: STUCK, why: 'as above' },
  'only if there never was one: kms-plugin keys create': {
    fault: MISSING,
    why: 'the restore comes first; keys create refuses a label under which a key was seen here',
  },
  'make a key that stays in the HSM (kms-plugin keys create) and rotate to it': {
    fault: UNSAFE_KEY,
    why: 'under a new label: the old key stays listed and on the token',
  },
  // The keyring's own words for the same.
  'only where there never was one: \\`kms-plugin keys create': { fault: MISSING, why: 'as above' },
  'where there is none: \\`kms-plugin keys create': { fault: MISSING, why: 'as above' },
  'if the PIN was just changed on the token, restart one instance first': {
    fault: 'KMS-2003',
    why: 'one instance alone spends one try of the PIN',
  },
  'set token.pin_despite_flag: true': { fault: 'KMS-2003', why: 'not logged in: nobody is served meanwhile' },
  // src, elsewhere
  'challenge secret, set token.pin_despite_flag: true and restart': { fault: 'KMS-2003', why: 'as above' },
  'stop the plugin until it can, or a restart tries the PIN again': { fault: 'KMS-2003', why: 'it warns of a restart' },
  'make a new key and rotate to it, or set allow_unsafe: true': {
    fault: UNSAFE_KEY,
    why: 'under a new label: the old key stays listed and on the token',
  },
  'is gone: restart the service': { fault: SOCKET_GONE, why: 'only a restart makes the name again' },
  'stop that program, then restart the service': {
    fault: 'another program that listens at the path of the socket',
    why: 'no client reaches the plugin there anyway',
  },
  // docs
  'Then `kms-plugin keys create LABEL`, or make the key with': {
    fault: 'KMS-3010',
    why: 'the HSM refused to make it, so there is none; keys create refuses a label under which a key was seen here',
  },
  '**restart CredHub**.': { fault: STUCK, why: 'its start has failed, and what made it fail is mended' },
  'Only a restart helps a CredHub whose start has met this': { fault: 'KMS-1002', why: 'it serves nobody' },
  'run `kms-plugin reload`, and restart CredHub if its start has failed': {
    fault: 'values under a key that has left the configuration',
    why: 'the key is listed again before CredHub starts',
  },
  'restart CredHub **before** anything is written': {
    fault: 'KMS-3005',
    why: 'the key is listed again before CredHub starts',
  },
  'leaves a process that serves nothing: only a restart of CredHub helps': { fault: STUCK, why: 'it serves nobody' },
  'Somebody has removed it. New connections fail until the plugin is restarted.': {
    fault: SOCKET_GONE,
    why: 'only a restart makes the name again',
  },
};

/** Texts with such a word that advise nothing, or advise against it. */
export const NO_ADVICE: Readonly<Record<string, string>> = {
  "'make a key that the token lacks'": 'says what a verb does',
  "'kms-plugin keys create credhub-2027'": 'an example in the help',
  'until the next restart': 'says how long a setting lasts',
  "the next restart'": 'says how long a setting lasts',
  'only after a restart': 'says when',
  'What /healthz/liveness answers: 1 unless a restart would help.': 'says what a figure means',
  'ends the re-encryption until the next restart': 'says what CredHub does',
  'after a restart the plugin would not start': 'warns of a restart',
  'Nothing, until a restart of the plugin': 'warns of a restart',
  'the plugin needs no restart': 'advises against it',
  '**Never make a new key under its label**': 'advises against it',
  'Do not delete the other before nothing needs it': 'advises against it',
  'never make a new key under its label': 'advises against it',
  'a restart would fail': 'warns of a restart',
  'wait for a restart': 'says what is pending; status names the settings',
  'alive, hung, ended, restarted within the last hour': 'says what is looked at',
  'never recovers without a restart': 'says what CredHub does',
  'After a restart only': 'says when',
  'restart and what is wrong. If anything is wrong': 'says what the verb prints',
  '## keys create LABEL': 'a heading',
  '$ kms-plugin keys create key-2027': 'an example, whose page says what it refuses',
  '`/v1/keys/create`': 'the interface behind the verb',
  'never a reason to restart anything': 'advises against it',
  '**Attributes.** `kms-plugin keys create LABEL` makes keys so': 'says what a verb does',
  'a restart would not help': 'advises against it',
  'a rotation, and the making of a key': 'says what was tried',
  '`kms-plugin keys create` | yes': 'says what was tried',
  'Besides after a restart and after a rotation': 'says when a data key ends',
  'do not restart it to mend the HSM': 'advises against it',
  'A **restart** of the plugin forgets all': 'warns of a restart',
  'stays down until it is restarted': 'says what CredHub does',
  'serves nothing until it is restarted': 'says what CredHub does',
  'stops until the next restart': 'says what CredHub does',
  'a socket is gone, and only a restart mends that': 'says what a figure means',
};

/** Documents that are procedures as a whole, with the tests that carry out what they say. */
export const PROCEDURES: Readonly<Record<string, string>> = {
  'docs/deploy.md': 'test/bosh',
  'docs/migrate.md': 'test/java',
  'docs/recover.md': 'test/keyring',
  'docs/rotate.md': 'test/keyring',
  'docs/kubernetes.md': 'test/kubernetes',
  'docs/pin.md': 'test/pin',
};
