import { lockFile } from '../../lock/index.ts';
import { describeEntry } from './entry.ts';
import { loginLockPath, memoryPath, PinMemory, PinMemoryError } from './memory.ts';
import { isGivenUp } from './rules.ts';
import type { PinRecord, TokenIdentity } from './types.ts';

/** How long a command waits for a login that goes on, in milliseconds. */
const COMMAND_WAIT_MS = 2_000;

/** Reading takes no lock: where a write comes between, both slots may look torn, but not so often in a row. */
const MOST_READS = 5;

/**
 * What is remembered, oldest first. Neither PINs nor hashes. Takes no lock, so that it answers while a login hangs.
 * @throws PinMemoryError when the memory is damaged; the system's error when it cannot be read.
 */
export function describePins(stateDir: string): readonly PinRecord[] {
  for (let reads = 1; ; reads++) {
    try {
      const entries = PinMemory.read(stateDir)?.entries ?? [];
      return entries.toSorted((a, b) => a.at - b.at).map((entry) => describeEntry(entry, entries));
    } catch (error) {
      if (!(error instanceof PinMemoryError) || reads === MOST_READS) throw error;
    }
  }
}

/**
 * Whether the memory keeps this PIN (its bytes) of that token from being tried for good. Takes no lock, as above.
 * @throws PinMemoryError when the memory is damaged; the system's error when it cannot be read.
 */
export async function isRefused(stateDir: string, token: TokenIdentity, pin: Buffer): Promise<boolean> {
  const memory = PinMemory.read(stateDir);
  const entry = memory?.find(token, await memory.hash(token.serial, pin));
  return entry !== undefined && isGivenUp(entry);
}

/**
 * Forgets every PIN of that token, or of all tokens; the next login is the first again. Returns how many were forgotten.
 * A damaged memory is replaced, if no serial number is given: nobody can tell what to keep.
 *
 * @throws LockHeldError when a login goes on for longer than 2 s.
 * @throws PinMemoryError when the memory is damaged and a serial number is given.
 */
export async function clearPins(stateDir: string, serial?: string): Promise<number> {
  const lock = await lockFile(loginLockPath(stateDir), { waitMs: COMMAND_WAIT_MS });
  try {
    return PinMemory.read(stateDir)?.forget(serial) ?? 0;
  } catch (error) {
    if (!(error instanceof PinMemoryError)) throw error;
    if (serial !== undefined) {
      throw new PinMemoryError(`${memoryPath(stateDir)} is damaged: run "kms-plugin pin clear" for all tokens`);
    }
    PinMemory.reset(stateDir);
    return 0;
  } finally {
    lock.release();
  }
}
