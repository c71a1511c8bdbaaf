import path from 'node:path';
import { setImmediate as endOfTurn } from 'node:timers/promises';
import { loadConfig } from '../config/index.ts';
import { FAILURES, FAULTS } from '../errors/index.ts';
import { LockHeldError, lockFile, type FileLock } from '../lock/index.ts';
import type { Logger } from '../log/index.ts';
import { preventCoreFiles, refuseDebugger } from '../process/index.ts';
import { SocketError } from '../socket/index.ts';
import { versions } from '../version/index.ts';
import type { Parts } from './hsm-side.ts';
import type { Service, ServiceOptions } from './service.ts';
import { prepareStateDir, StartError } from './state-dir.ts';

/** How long the log's reader may take for the last lines, in milliseconds. */
const LAST_LINES_MS = 250;

/**
 * `kms-plugin serve`: serves until SIGTERM or SIGINT, and never ends because of the HSM.
 *
 * In this order: configuration checked (nothing is touched before), state_dir, serve.lock for life, core files prevented,
 * log, token and keyring begun in the background, control socket, health port, listeners. The token process takes longest to
 * be ready, so it starts as early as it may, and what serves (gRPC, HTTP, metrics) is loaded while it does.
 *
 * @param parts - instead of the token and the keyring; for tests.
 * @returns the exit status once the service has stopped.
 * @throws ConfigError when the configuration is faulty; StartError, SocketError when it cannot begin.
 */
export async function serve(configFile: string, parts?: Parts): Promise<number> {
  const signals = catchSignals();
  refuseDebugger();
  const config = loadConfig(configFile);
  const stateDirWarning = prepareStateDir(config.stateDir);
  // Another program takes the lock; what is needed next is loaded meanwhile.
  const [lock, { createLogger }, { reachHsm }] = await Promise.all([
    lockForLife(path.join(config.stateDir, 'serve.lock')),
    import('../log/index.ts'),
    import('./hsm-side.ts'),
  ]);
  const coreFiles = preventCoreFiles();
  const log = createLogger({ level: config.log.level });
  catchFaults(log);
  try {
    const warnings = [...(stateDirWarning === undefined ? [] : [stateDirWarning]), ...coreFiles.problems];
    for (const warning of [...config.warnings, ...warnings]) log.warn(warning);
    const { program, node } = versions();
    log.info('starting', { version: program, node, pid: process.pid, config: config.file });
    const hsm = reachHsm(config, log, parts);
    const service = await openService({ config, hsm, log, version: program, warnings });
    signals.reload(() => void service.reload());
    const signal = await signals.end;
    log.info('stopping', { signal });
    await service.stop();
    log.info('stopped');
    return 0;
  } catch (error) {
    const expected = error instanceof StartError || error instanceof SocketError;
    log.error(
      `cannot serve: ${(error as Error).message}`,
      expected ? { code: FAULTS.start.code } : { code: FAILURES.internal.code, error },
    );
    throw error;
  } finally {
    await log.flush(LAST_LINES_MS);
    lock.release();
  }
}

/** Loads, makes and opens what serves. Ends it when that fails, the token process with it. */
async function openService(options: ServiceOptions): Promise<Service> {
  let stop = (): Promise<void> => options.hsm.keyring.close();
  try {
    // The token process's first request leaves at the end of this turn; loading takes 50 ms, in which nothing leaves.
    await endOfTurn();
    const { Service } = await import('./service.ts');
    const service = new Service(options);
    stop = () => service.stop();
    await service.open();
    return service;
  } catch (error) {
    await stop();
    throw error;
  }
}

async function lockForLife(lockPath: string): Promise<FileLock> {
  try {
    return await lockFile(lockPath, { waitMs: 0 });
  } catch (error) {
    if (!(error instanceof LockHeldError)) throw new StartError((error as Error).message);
    throw new StartError(`another kms-plugin serves with this state_dir: it holds ${lockPath}; stop it first`);
  }
}

/**
 * From the first moment on: SIGHUP would end the process otherwise, and a SIGTERM during the start must not be lost. A
 * SIGHUP that comes before there is a service is answered when there is one.
 */
function catchSignals(): { readonly end: Promise<string>; reload(action: () => void): void } {
  let early = false;
  let onReload = (): void => {
    early = true;
  };
  process.on('SIGHUP', () => onReload());
  const end = new Promise<string>((resolve) => {
    // Kept installed: a second signal must not cut the end short.
    process.on('SIGTERM', () => resolve('SIGTERM'));
    process.on('SIGINT', () => resolve('SIGINT'));
  });
  return {
    end,
    reload: (action) => {
      onReload = action;
      if (early) action();
    },
  };
}

/**
 * A promise that nobody waited for has failed on its own: it is logged, and the service goes on. An exception that
 * nobody caught has left something half done: the process ends, and whoever supervises it starts it anew in seconds.
 */
function catchFaults(log: Logger): void {
  const { code } = FAILURES.internal;
  process.on('unhandledRejection', (reason) => {
    log.error('internal error: a failure was not waited for; the service goes on', { code, error: reason });
  });
  process.on('uncaughtException', (error) => {
    log.error('internal error: the process ends, to be started anew', { code, error });
    setTimeout(() => process.exit(1), LAST_LINES_MS + 100);
    void log.flush(LAST_LINES_MS).then(() => process.exit(1));
  });
}
