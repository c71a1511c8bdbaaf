import { preventCoreFiles, refuseDebugger } from '../../process/index.ts';
import { Channel } from '../wire/channel.ts';
import { FrameError, FrameType, type Frame } from '../wire/frame.ts';
import {
  decodeCryptoRequest,
  decodeJson,
  encodeJson,
  type AliveEvent,
  type FailedAnswer,
  type IvEvent,
  type KeysAnswer,
  type KeysRequest,
  type OpenRequest,
} from '../wire/messages.ts';
import { Engine } from './engine.ts';
import { OperationError } from './operation-error.ts';
import { watchParent } from './watchdog.ts';

/**
 * The token process: the only one that loads the vendor's module and reads the PIN. It serves one socketpair, its file
 * descriptor 3, and ends with it. The plugin process, which strangers' bytes reach, is treated as hostile: six kinds of
 * request, bounded, and none that hands out a key or the PIN.
 */
const CHANNEL_FD = 3;

/**
 * Ends this process at once. `process.exit` would wait for calls that hang in the vendor's library, and run its
 * destructors under them.
 */
function end(): void {
  process.kill(process.pid, 'SIGKILL');
}

/** How often it says that it is alive, in milliseconds. */
const ALIVE_INTERVAL_MS = 1_000;

class TokenProcess {
  readonly #channel: Channel;
  #engine: Engine | undefined;

  constructor(fd: number) {
    this.#channel = new Channel(
      { fd },
      {
        frame: (frame) => this.#receive(frame),
        broken: (reason) => {
          if (reason instanceof FrameError) console.error(`kms-plugin token process: ${reason.message}`);
          this.#engine?.close();
          end();
        },
      },
    );
  }

  #receive(frame: Frame): void {
    this.#answer(frame).catch((thrown: unknown) => {
      if (!(thrown instanceof FrameError)) {
        this.#fail(frame.id, thrown);
        return;
      }
      console.error(`kms-plugin token process: ${thrown.message}`);
      end();
    });
  }

  async #answer(frame: Frame): Promise<void> {
    if (frame.type === FrameType.open) {
      this.#open(frame);
      return;
    }
    const engine = this.#engine;
    if (engine === undefined) throw new FrameError('the first request must be "open"');
    switch (frame.type) {
      case FrameType.encrypt: {
        const body = await engine.seal(decodeCryptoRequest(frame.payload));
        this.#countIvs();
        this.#channel.send(FrameType.ok, frame.id, [body]);
        return;
      }
      case FrameType.decrypt: {
        const plaintext = await engine.open(decodeCryptoRequest(frame.payload));
        this.#countIvs();
        this.#channel.send(FrameType.ok, frame.id, [plaintext], () => plaintext.fill(0));
        return;
      }
      case FrameType.openSurely: {
        const plaintext = await engine.openSurely(decodeCryptoRequest(frame.payload));
        this.#countIvs();
        this.#channel.send(FrameType.ok, frame.id, [plaintext], () => plaintext.fill(0));
        return;
      }
      case FrameType.probe:
        await engine.probe();
        this.#countIvs();
        this.#channel.send(FrameType.ok, frame.id, []);
        return;
      case FrameType.keys: {
        const request = decodeJson(frame.payload) as KeysRequest;
        const { create, queries } = request;
        // Whatever fails after it was made must not look as if it was not: the caller searches for itself.
        const keys = create === undefined ? await engine.keys(queries) : await engine.create(create);
        const answer: KeysAnswer = { keys };
        this.#countIvs();
        this.#channel.send(FrameType.ok, frame.id, encodeJson(answer));
        return;
      }
      case FrameType.ok:
      case FrameType.failed:
      case FrameType.event:
        throw new FrameError('an answer came in place of a request');
    }
  }

  #open(frame: Frame): void {
    if (this.#engine !== undefined) throw new FrameError('"open" came twice');
    this.#engine = new Engine(decodeJson(frame.payload) as OpenRequest, {
      state: (event) =>
        this.#channel.send(FrameType.event, 0, encodeJson(event), event.wornOut === true ? end : undefined),
    });
    this.#engine.start();
    setInterval(() => {
      if (this.#engine?.moves() === false) return;
      const alive: AliveEvent = {
        alive: true,
        ...this.#engine?.vitals(),
      };
      this.#countIvs();
      this.#channel.send(FrameType.event, 0, encodeJson(alive));
    }, ALIVE_INTERVAL_MS);
  }

  /** Before every answer: what it took is counted even if this process ends right after it. */
  #countIvs(): void {
    const ivs = this.#engine?.ivs.take();
    if (ivs === undefined) return;
    const event: IvEvent = { ivs };
    this.#channel.send(FrameType.event, 0, encodeJson(event));
  }

  #fail(id: number, thrown: unknown): void {
    const answer: FailedAnswer =
      thrown instanceof OperationError
        ? {
            kind: thrown.kind,
            message: thrown.message,
            lost: thrown.lost,
            ...(thrown.ckr === undefined ? {} : { ckr: thrown.ckr }),
          }
        : { kind: 'internal', message: `in the token process: ${String(thrown)}`, lost: false };
    this.#countIvs();
    this.#channel.send(FrameType.failed, id, encodeJson(answer));
  }
}

// A signal to the whole group must not take the HSM from calls in flight: the plugin process says when it is over.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
process.on('SIGHUP', () => undefined);
refuseDebugger();
preventCoreFiles();
watchParent();
new TokenProcess(CHANNEL_FD);
