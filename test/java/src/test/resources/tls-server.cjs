// An HTTP/2 server with the certificate of a directory, whatever that is, which answers every gRPC call with UNIMPLEMENTED:
// node tls-server.cjs DIRECTORY
const { createSecureServer } = require('node:http2');
const { readFileSync } = require('node:fs');
const { join } = require('node:path');

const directory = process.argv[2];
const server = createSecureServer({
  cert: readFileSync(join(directory, 'server.crt')),
  key: readFileSync(join(directory, 'server.key')),
});
server.on('stream', (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' }, { endStream: true });
});
server.on('sessionError', () => undefined);
server.listen(join(directory, 'tls.sock'));
