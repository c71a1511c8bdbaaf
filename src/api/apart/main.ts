/** The client process: does what it is asked for, and answers. Ends when the process that started it has the answer, or is gone. */
import { roundTrip, RoundTripError } from '../client.ts';
import { shakeHands } from '../handshake.ts';
import type { Answer, Task } from './task.ts';

async function answerTo(task: Task): Promise<Answer> {
  try {
    if (task.kind === 'handshake') return { kind: 'handshake', handshake: await shakeHands(task.options) };
    const { listener, options } = task;
    return { kind: 'round trip', trip: await roundTrip(listener, options) };
  } catch (error) {
    if (!(error instanceof RoundTripError)) return { kind: 'error', message: (error as Error).message };
    const { step, status, details } = error;
    return { kind: 'failed', step, status, details };
  }
}

// The process that asked ends the connection when it has the answer; an exit here could overtake it.
process.once('disconnect', () => process.exit(0));
process.once('message', (task: Task) => void answerTo(task).then((answer) => process.send?.(answer)));
