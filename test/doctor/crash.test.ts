/** A certificate that ends the process that reads it: a server shows one, and every command ends with a line of its own. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { createServer, type TLSSocket } from 'node:tls';
import type { Server } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Diagnosis } from '../../src/doctor/index.ts';
import { ecKey, HOST } from '../config/fixtures.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { running } from '../service/processes.ts';

/** The configuration may not name such certificates, so another program shows them. */
const CURVES = ['brainpoolP256r1', 'brainpoolP384r1', 'brainpoolP512r1'];

let installation: Installation;
before(async () => {
  installation = await makeInstallation();
});
after(() => installation.cleanup());

function serve(curve: string): Promise<Server> {
  const { fixture } = installation;
  const { certificate, key } = fixture.certify(curve, {
    names: `DNS:${HOST}`,
    issuer: fixture.ca,
    genpkey: ecKey(curve),
  });
  const server = createServer({
    cert: readFileSync(certificate),
    key: readFileSync(key),
    ALPNProtocols: ['h2'],
    ecdhCurve: 'auto',
  });
  server.on('secureConnection', (socket: TLSSocket) => socket.on('error', () => undefined));
  server.on('tlsClientError', () => undefined);
  const socket = fixture.at('run/credhub.sock');
  rmSync(socket, { force: true });
  return new Promise((resolve) => server.listen(socket, () => resolve(server)));
}

for (const curve of CURVES) {
  describe(`a served certificate with a key on ${curve}`, () => {
    let server: Server;
    before(async () => {
      server = await serve(curve);
    });
    after(() => new Promise((resolve) => server.close(resolve)));

    it('is named by doctor, which goes on', async () => {
      const { status, stdout } = await running('doctor', '--json', '--config', installation.config);
      assert.equal(status, 1);
      const { lines } = JSON.parse(stdout) as Diagnosis;
      const tls = lines.find(({ check }) => check === 'tls');
      assert.equal(tls?.verdict, 'failure', stdout);
      assert.match(
        tls.seen,
        new RegExp(`credhub: .*CN=${curve}, key ec ${curve}\\) .*credhub\\.sock ended \\(SIGSEGV\\)`),
      );
      assert.match(tls.mend ?? '', /kms-plugin reload/);
      assert.ok(
        lines.some(({ check }) => check === 'credhub'),
        'the last check',
      );
    });

    it('is named by roundtrip', async () => {
      const { status, stdout } = await running('roundtrip', '--listener', 'credhub', '--config', installation.config);
      assert.equal(status, 1);
      assert.match(
        stdout,
        new RegExp(`failed\\n.*key ec ${curve}\\) .*credhub\\.sock ended \\(SIGSEGV\\)\\n {2}-> run`),
      );
    });
  });
}

describe('a served certificate that no handshake takes (secp256k1)', () => {
  it('is a line of doctor and of roundtrip', async () => {
    const server = await serve('secp256k1');
    const doctor = await running('doctor', '--json', '--config', installation.config);
    const roundtrip = await running('roundtrip', '--listener', 'credhub', '--config', installation.config);
    server.close();
    const { lines } = JSON.parse(doctor.stdout) as Diagnosis;
    const tls = lines.find(({ check }) => check === 'tls');
    assert.match(tls?.seen ?? '', /^credhub: no TLS handshake \([a-z0-9/ ]*handshake failure\)$/);
    assert.deepEqual([doctor.status, roundtrip.status], [1, 1]);
    assert.match(roundtrip.stdout, /failed\n {2}Encrypt: UNAVAILABLE/);
  });
});
