/** The OCI image as scripts/create-image makes it, looked at with umoci. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { run } from '../../hsm/index.ts';

const root = path.resolve(import.meta.dirname, '../../..');

/** The program's, which is the image's tag. */
export const version = (
  JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { readonly version: string }
).version;

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** An image in a directory of its own. */
export class Image {
  readonly directory = mkdtempSync('/tmp/image-');
  readonly archive = path.join(this.directory, 'image.tar');
  /** Where umoci puts the root filesystem, and the configuration for runc that it derives from the image's own. */
  readonly bundle = path.join(this.directory, 'bundle');
  readonly rootfs = path.join(this.bundle, 'rootfs');
  readonly #layout = path.join(this.directory, 'layout');

  /** @param options of scripts/create-image */
  async create(...options: string[]): Promise<void> {
    await run([path.join(root, 'scripts/create-image'), '--output', this.archive, ...options]);
    mkdirSync(this.#layout);
    await run(['tar', '-xf', this.archive, '-C', this.#layout]);
  }

  async unpack(): Promise<void> {
    await run(['umoci', 'unpack', '--image', `${this.#layout}:${version}`, this.bundle]);
  }

  /** The one image that the index names. */
  get descriptor(): Descriptor {
    const { manifests } = JSON.parse(readFileSync(path.join(this.#layout, 'index.json'), 'utf8')) as {
      manifests: readonly Descriptor[];
    };
    const [only] = manifests;
    if (only === undefined || manifests.length > 1) throw new Error(`the index names ${manifests.length} images`);
    return only;
  }

  get layers(): readonly Descriptor[] {
    return (this.#blob(this.descriptor.digest) as { layers: readonly Descriptor[] }).layers;
  }

  #blob(digest: string): unknown {
    return JSON.parse(readFileSync(path.join(this.#layout, 'blobs', digest.replace(':', '/')), 'utf8'));
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}
