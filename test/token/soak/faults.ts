import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultyModule } from '../../module/index.ts';
import type { Watched } from '../../service/processes.ts';

/** What a fault may touch. */
export interface Subject {
  readonly faulty: FaultyModule;
  readonly service: Watched;
  readonly tokenProcess: () => Promise<number | undefined>;
}

const pick = <T>(values: readonly T[]): T => values[Math.floor(Math.random() * values.length)] as T;
const between = (from: number, to: number): number => Math.round(from + Math.random() * (to - from));

const CODES = ['CKR_DEVICE_ERROR', 'CKR_GENERAL_ERROR', 'CKR_FUNCTION_FAILED', 'CKR_SESSION_CLOSED', 0x80000123];
const CRYPTO = ['C_Encrypt', 'C_Decrypt', 'C_EncryptInit', 'C_DecryptInit'] as const;

/** Faults short enough to be hidden; each gives the token back well. Those that end a process are rare: pauses grow. */
export const FAULTS: Readonly<Record<string, (subject: Subject) => void | Promise<void>>> = {
  'sessions lost': ({ faulty }) => faulty.loseSessions(pick(CODES)),
  'login lost': ({ faulty }) => faulty.loseLogin(),
  'object handles stale': ({ faulty }) => faulty.staleObjects(),
  'wedged until C_Initialize': ({ faulty }) => faulty.wedge('initialize'),
  'token removed': async ({ faulty }) => {
    faulty.control({ removed: { untilInitialize: Math.random() < 0.5 } });
    await sleep(between(100, 1_000));
    faulty.control({});
  },
  'device error for a while': ({ faulty }) =>
    faulty.control({ rules: [{ on: '*', answer: pick(CODES), forMs: between(100, 1_000) }] }),
  'some calls fail': ({ faulty }) =>
    faulty.control({ rules: [{ on: CRYPTO, answer: pick(CODES), oneIn: 20, forMs: 1_500 }] }),
  'some calls fail half way': ({ faulty }) =>
    faulty.control({ rules: [{ on: CRYPTO, answer: pick(CODES), leaveOpen: true, oneIn: 30, forMs: 1_500 }] }),
  slow: ({ faulty }) => faulty.control({ rules: [{ on: CRYPTO, delayUs: 5_000, jitterUs: 20_000, forMs: 2_000 }] }),
  'few sessions': async ({ faulty }) => {
    faulty.control({ maxSessions: 3 });
    faulty.loseSessions();
    await sleep(1_500);
    faulty.control({});
    faulty.loseSessions();
  },
  reload: ({ service }) => void service.child.kill('SIGHUP'),
};

/** Each ends the token process. */
export const ENDS: typeof FAULTS = {
  crash: ({ faulty }) =>
    faulty.control({ rules: [{ on: CRYPTO, crash: pick(['segv', 'abort', 'exit'] as const), times: 1 }] }),
  'wedged until a new process': ({ faulty }) => faulty.wedge('new-process'),
  killed: async ({ tokenProcess }) => {
    const pid = await tokenProcess();
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  },
};
