/**
 * Keeps Node from opening its debugger at SIGUSR1: whoever reaches that port on loopback, any user of the machine, reads
 * this process's memory. A listener takes the place of Node's own (Node.js documentation, "Signal events").
 */
export function refuseDebugger(): void {
  process.on('SIGUSR1', () => undefined);
}
