import { Worker } from 'node:worker_threads';

/** How long this process may outlive the plugin process, to finish a call inside the module, in milliseconds. */
const GRACE_MS = 5_000;
const LOOK_MS = 500;

/**
 * Runs in a thread of its own, since the main thread may hang in native code for ever. Text and not a file: it is all
 * that the thread needs, and the bundle stays one file.
 */
const WATCH = `
  const parent = process.ppid;
  let alone = 0;
  setInterval(() => {
    if (process.ppid === parent) return;
    alone += ${LOOK_MS};
    if (alone >= ${GRACE_MS}) process.kill(process.pid, 'SIGKILL');
  }, ${LOOK_MS});
`;

/**
 * Ends this process for certain once the plugin process is gone: an orphan that hangs in the vendor's library would hold
 * the HSM's sessions. It is not ended at once (by PR_SET_PDEATHSIG, say): SoftHSM2 writes its token's file anew at each
 * C_Login, and killed in the middle of it leaves an empty file, with every key gone. Costs 11 MiB.
 */
export function watchParent(): void {
  const worker = new Worker(WATCH, {
    eval: true,
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1 },
    env: {},
  });
  worker.unref();
  worker.on('error', (error: Error) => console.error(`kms-plugin token process: no watchdog: ${error.message}`));
}
