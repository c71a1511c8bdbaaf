import pkcs11js from 'pkcs11js';
import { CkrError, toCkrError } from './ckr.ts';

export type Handle = Buffer;
export type Mechanism = pkcs11js.Mechanism;
export type Template = pkcs11js.Template;

export interface TokenFacts {
  readonly slot: Handle;
  /** In decimal: a CK_SLOT_ID may be larger than a number holds exactly. */
  readonly slotId: string;
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly firmware: string;
  readonly flags: number;
  /** Sessions that the token allows in all; undefined when it names no limit. */
  readonly maxSessions: number | undefined;
  readonly mechanisms: ReadonlySet<number>;
}

/** Runs a PKCS#11 function; whatever it throws becomes a CkrError that names the function. */
function call<T>(operation: string, run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    throw toCkrError(operation, thrown);
  }
}

/** What `open` gives; undefined where it throws. */
function opened<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch {
    return undefined;
  }
}

async function callAsync<T>(operation: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (thrown) {
    throw toCkrError(operation, thrown);
  }
}

/** Session states in which a user is logged in (PKCS#11 v2.40, section 4.3); pkcs11js does not name them. */
const CKS_RO_USER_FUNCTIONS = 1;
const CKS_RW_USER_FUNCTIONS = 3;

/** A search that gives more handles than this never ends. */
const MOST_OBJECTS = 1_000_000;

/** Answers that say that a session is not open. */
const GONE: ReadonlySet<string> = new Set(['CKR_SESSION_HANDLE_INVALID', 'CKR_SESSION_CLOSED']);

/** Answers to C_OpenSession that speak of the device or of room, and not of the kind of session. */
const NO_SESSION_AT_ALL =
  /^CKR_(SESSION_COUNT|DEVICE_.*|TOKEN_.*|SLOT_ID_INVALID|CRYPTOKI_NOT_INITIALIZED|HOST_MEMORY|SESSION_HANDLE_INVALID|SESSION_CLOSED)$/;

/** Slot and session ids arrive as the eight bytes of a CK_ULONG. */
export const handleToNumber = (handle: Handle): number => Number(handle.readBigUInt64LE(0));

/**
 * A loaded PKCS#11 module: thin, typed, every failure a CkrError. The only file that touches pkcs11js, together with
 * `operation.ts`. Functions without "Async" block this process for as long as the vendor's library takes.
 */
export class Pkcs11Module {
  readonly path: string;
  readonly native = new pkcs11js.PKCS11();
  /** Cryptographic operations inside the module, on whatever thread: it must not be finalized under them. */
  #operations = 0;
  #ended = 0;
  readonly #initArgs: string | undefined;
  #initialized = false;
  /** A session could not be closed, and may be open still. */
  #leftOpen = false;
  /** Sessions that only read are refused (AWS CloudHSM's SDK 5.0 to 5.4), so all are opened to write. */
  #readOnlyRefused = false;

  /**
   * @param initArgs - text for C_Initialize, which NSS takes in a field of its own.
   * Throws CkrError when the library cannot be loaded; its message then holds the dynamic linker's words.
   */
  constructor(path: string, initArgs?: string) {
    this.path = path;
    this.#initArgs = initArgs;
    call('dlopen', () => this.native.load(path));
  }

  get initialized(): boolean {
    return this.#initialized;
  }

  /** How many operations are inside the module, and how many have come back from it. */
  get progress(): { readonly inside: number; readonly ended: number } {
    return { inside: this.#operations, ended: this.#ended };
  }

  /** Runs an operation that a thread of the pool makes. */
  async inside<T>(operation: () => Promise<T>): Promise<T> {
    this.#operations++;
    try {
      return await operation();
    } finally {
      this.#operations--;
      this.#ended++;
    }
  }

  /** C_Initialize with CKF_OS_LOCKING_OK, since several threads call (section 5.4); without arguments where that is refused. */
  initialize(): void {
    // pkcs11js 2.1.7 drops the last character.
    const parameters = this.#initArgs === undefined ? {} : { libraryParameters: `${this.#initArgs} ` };
    try {
      this.native.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK, ...parameters });
    } catch (thrown) {
      const error = toCkrError('C_Initialize', thrown);
      if (this.#initArgs === undefined && (error.ckr === 'CKR_ARGUMENTS_BAD' || error.ckr === 'CKR_CANT_LOCK')) {
        call('C_Initialize', () => this.native.C_Initialize());
      } else if (error.ckr !== 'CKR_CRYPTOKI_ALREADY_INITIALIZED') {
        throw error;
      }
    }
    this.#initialized = true;
  }

  /** Throws CkrError; without calling the module while an operation is inside, on whatever thread. */
  finalize(): void {
    if (this.#operations > 0) throw new CkrError('C_Finalize', 'CKR_OPERATION_ACTIVE');
    this.#initialized = false;
    call('C_Finalize', () => this.native.C_Finalize());
    this.#leftOpen = false;
    this.#readOnlyRefused = false;
  }

  info(): { readonly description: string; readonly version: string } {
    const info = call('C_GetInfo', () => this.native.C_GetInfo());
    const { major, minor } = info.libraryVersion;
    return { description: info.libraryDescription.trim(), version: `${major}.${minor}` };
  }

  /** All slots that hold a token, with the token's facts but without its mechanisms. Slots that answer an error are left out. */
  tokens(): Omit<TokenFacts, 'mechanisms'>[] {
    const slots = call('C_GetSlotList', () => this.native.C_GetSlotList(true));
    return slots.flatMap((slot) => {
      try {
        return [this.token(slot)];
      } catch {
        return [];
      }
    });
  }

  token(slot: Handle): Omit<TokenFacts, 'mechanisms'> {
    const info = call('C_GetTokenInfo', () => this.native.C_GetTokenInfo(slot));
    const text = (value: string): string => value.split('\0', 1)[0]?.trim() ?? '';
    // CK_EFFECTIVELY_INFINITE is 0, CK_UNAVAILABLE_INFORMATION all ones (section 4.4).
    const max = info.maxSessionCount;
    return {
      slot,
      slotId: slot.readBigUInt64LE(0).toString(),
      label: text(info.label),
      serial: text(info.serialNumber),
      manufacturer: text(info.manufacturerID),
      model: text(info.model),
      firmware: `${info.firmwareVersion.major}.${info.firmwareVersion.minor}`,
      flags: info.flags,
      maxSessions: max > 0 && max < 0xffffffff ? max : undefined,
    };
  }

  mechanisms(slot: Handle): Set<number> {
    return new Set(call('C_GetMechanismList', () => this.native.C_GetMechanismList(slot)));
  }

  /**
   * Opens a session that only reads where that is enough and allowed: tokens may be write-protected, and have fewer sessions
   * that write. Throws CkrError.
   */
  openSession(slot: Handle, wanted: { readonly writable: boolean }): { handle: Handle; writable: boolean } {
    const open = (writable: boolean): { handle: Handle; writable: boolean } => {
      const flags = pkcs11js.CKF_SERIAL_SESSION | (writable ? pkcs11js.CKF_RW_SESSION : 0);
      return { handle: call('C_OpenSession', () => this.native.C_OpenSession(slot, flags)), writable };
    };
    if (wanted.writable || this.#readOnlyRefused) return open(true);
    try {
      return open(false);
    } catch (error) {
      if (!(error instanceof CkrError) || NO_SESSION_AT_ALL.test(error.ckr)) throw error;
      const session = opened(() => open(true));
      if (session === undefined) throw error;
      this.#readOnlyRefused = true;
      return session;
    }
  }

  /** Closing must not fail what it cleans up after: what a device in trouble keeps open, `closeLeftOpen` closes. */
  closeSession(session: Handle): void {
    try {
      this.native.C_CloseSession(session);
    } catch (thrown) {
      if (!GONE.has(toCkrError('C_CloseSession', thrown).ckr)) this.#leftOpen = true;
    }
  }

  /**
   * Closes the sessions that could not be closed one by one, before others are opened: each is one fewer for everybody. It
   * closes all of them, so nobody may use one; not done while an operation is inside. Never throws.
   */
  closeLeftOpen(slot: Handle): void {
    if (!this.#leftOpen || this.#operations > 0) return;
    try {
      this.native.C_CloseAllSessions(slot);
      this.#leftOpen = false;
    } catch {
      // The next connection tries again.
    }
  }

  /** Whether a user is logged in on the session's token (C_GetSessionInfo's state). */
  loggedIn(session: Handle): boolean {
    const { state } = call('C_GetSessionInfo', () => this.native.C_GetSessionInfo(session));
    return state === CKS_RO_USER_FUNCTIONS || state === CKS_RW_USER_FUNCTIONS;
  }

  login(session: Handle, userType: number, pin: string): void {
    call('C_Login', () => this.native.C_Login(session, userType, pin));
  }

  findObjects(session: Handle, template: Template): Handle[] {
    call('C_FindObjectsInit', () => this.native.C_FindObjectsInit(session, template));
    try {
      const found: Handle[] = [];
      for (;;) {
        const batch = call('C_FindObjects', () => this.native.C_FindObjects(session, 64));
        // Fewer than asked for is not the end of a search: only none is (PKCS#11 v2.40, section 5.7).
        if (batch.length === 0) return found;
        found.push(...batch);
        if (found.length > MOST_OBJECTS) throw new CkrError('C_FindObjects', 'CKR_DEVICE_ERROR');
      }
    } finally {
      try {
        this.native.C_FindObjectsFinal(session);
      } catch {
        // The search's own error is the one to tell.
      }
    }
  }

  /** One attribute's bytes, or undefined where the token does not have or show it. */
  attribute(session: Handle, object: Handle, type: number): Buffer | undefined {
    try {
      const [first] = this.native.C_GetAttributeValue(session, object, [{ type }]);
      return first === undefined || !Buffer.isBuffer(first.value) ? undefined : first.value;
    } catch (thrown) {
      const error = toCkrError('C_GetAttributeValue', thrown);
      if (error.ckr === 'CKR_ATTRIBUTE_TYPE_INVALID' || error.ckr === 'CKR_ATTRIBUTE_SENSITIVE') return undefined;
      throw error;
    }
  }

  async generateKey(session: Handle, mechanism: number, template: Template): Promise<Handle> {
    return this.inside(() =>
      callAsync('C_GenerateKey', () => this.native.C_GenerateKeyAsync(session, { mechanism }, template)),
    );
  }
}

export { CkrError, pkcs11js as constants };
