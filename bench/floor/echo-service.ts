import { readFileSync } from 'node:fs';
import { loadPackageDefinition, Server, ServerCredentials, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/**
 * The front end's floor: the same Node, grpc-js and .proto as the plugin, bundled alike, and nothing behind them. Encrypt
 * and Decrypt answer with what they got.
 *
 * Arguments: .proto file, socket with TLS, certificate, private key, socket without TLS.
 */
const [proto = '', tls = '', certificate = '', privateKey = '', plain = ''] = process.argv.slice(2);
const loaded = loadPackageDefinition(loadSync(proto, { keepCase: true, defaults: true }));
const { KeyManagementService } = loaded['v1beta1'] as unknown as { KeyManagementService: ServiceClientConstructor };

interface Call {
  readonly request: { readonly plain?: Buffer; readonly cipher?: Buffer };
}
type Callback = (error: null, answer: object) => void;

const server = new Server({ 'grpc.max_receive_message_length': 4 * 1024 * 1024 });
server.addService(KeyManagementService.service, {
  Version: (_call: Call, done: Callback) =>
    done(null, { version: 'v1beta1', runtime_name: 'echo', runtime_version: '1' }),
  Encrypt: ({ request }: Call, done: Callback) => done(null, { cipher: request.plain }),
  Decrypt: ({ request }: Call, done: Callback) => done(null, { plain: request.cipher }),
});
const pair = { cert_chain: readFileSync(certificate), private_key: readFileSync(privateKey) };
const bound = (error: Error | null): void => {
  if (error !== null) throw error;
};
server.bindAsync(`unix:${tls}`, ServerCredentials.createSsl(null, [pair]), bound);
server.bindAsync(`unix:${plain}`, ServerCredentials.createInsecure(), bound);
process.on('SIGTERM', () => server.forceShutdown());
