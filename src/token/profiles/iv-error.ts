/** The HSM was to make the IV and made none that can be one: its ciphertext must not leave. */
export class IvError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'IvError';
  }
}
