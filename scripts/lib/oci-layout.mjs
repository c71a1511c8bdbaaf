// Writes an OCI image layout (OCI image-spec 1.0): node oci-layout.mjs DIRECTORY NAME VERSION LAYER...
// NAME is the image's full reference; each LAYER is a path without its .tar. What is written depends on these alone.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

/** In the environment, since a #! line takes one option only. The token process, which loads the HSM's library, has its own. */
const HARDENED = '--disable-proto=throw --no-addons';

const [, , directory, name, version, ...layers] = process.argv;
const USER = '20358:20358';

const blobs = path.join(directory, 'blobs/sha256');
mkdirSync(blobs, { recursive: true });

const digestOf = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Stores a blob and gives its descriptor. */
function store(mediaType, bytes) {
  const digest = digestOf(bytes);
  writeFileSync(path.join(blobs, digest.slice('sha256:'.length)), bytes);
  return { mediaType, digest, size: bytes.length };
}
const storeJson = (kind, value) =>
  store(`application/vnd.oci.image.${kind}.v1+json`, Buffer.from(JSON.stringify(value)));

const tars = layers.map((layer) => readFileSync(`${layer}.tar`));
const config = storeJson('config', {
  created: '1970-01-01T00:00:00Z',
  architecture: 'amd64',
  os: 'linux',
  config: {
    User: USER,
    // One arena: with more glibc keeps 20 MiB of what Node's threads have freed.
    Env: [
      'PATH=/usr/bin',
      'KMS_PLUGIN_CONFIG=/etc/kms-plugin/kms-plugin.yml',
      'MALLOC_ARENA_MAX=1',
      `NODE_OPTIONS=${HARDENED}`,
    ],
    Entrypoint: ['/usr/bin/kms-plugin'],
    Cmd: ['serve'],
    WorkingDir: '/',
    StopSignal: 'SIGTERM',
    Labels: {
      'org.opencontainers.image.title': 'hsm-kms-plugin',
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': 'Apache-2.0',
    },
  },
  rootfs: { type: 'layers', diff_ids: tars.map(digestOf) },
  history: layers.map((layer) => ({ created_by: `scripts/create-image: ${path.basename(layer)}` })),
});
const manifest = storeJson('manifest', {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config,
  layers: tars.map((tar) => store('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar, { level: 6 }))),
});
const tag = /:([^:/]+)$/.exec(name)?.[1] ?? 'latest';
const index = {
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  manifests: [
    {
      ...manifest,
      platform: { architecture: 'amd64', os: 'linux' },
      // The first is containerd's name for it, the second what skopeo, podman and umoci look for.
      annotations: { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': tag },
    },
  ],
};
writeFileSync(path.join(directory, 'index.json'), JSON.stringify(index));
writeFileSync(path.join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
