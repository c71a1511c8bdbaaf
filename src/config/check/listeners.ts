import path from 'node:path';
import { lookAt, trueDirectory } from '../files.ts';
import type { Sheet } from '../problems.ts';
import type { ListItem } from '../read/fields.ts';
import type { FileDraft, ListenerDraft } from '../schema.ts';
import { firstOf } from './first-of.ts';
import { checkSocketPath, SUN_PATH_BYTES } from './socket-path.ts';
import { checkTls } from './tls/index.ts';

export function checkListeners({ listeners }: FileDraft, sheet: Sheet): void {
  if (listeners === undefined) return;
  for (const listener of listeners) checkListener(listener, sheet);
  checkRepeats(listeners, sheet);
}

function checkListener({ property, value: listener }: ListItem<ListenerDraft>, sheet: Sheet): void {
  const { endpoint, mode, tls } = listener;
  if (endpoint?.kind === 'path') checkPath(property, endpoint.path, listener, sheet);
  if (endpoint?.kind === 'abstract') checkAbstract(property, endpoint.name, listener, sheet);
  if (typeof mode === 'number') checkMode(`${property}.mode`, mode, sheet);
  checkApis(property, listener, sheet);
  // kube-apiserver speaks no TLS here, so that what is for v2 alone has a client of somebody's own.
  const credhub = listener.apis?.every(({ value }) => value === 'v2') !== true;
  if (tls !== undefined && tls !== null) checkTls(`${property}.tls`, tls, credhub, sheet);
}

function checkPath(property: string, file: string, listener: ListenerDraft, sheet: Sheet): void {
  checkSocketPath(`${property}.endpoint`, file, sheet);
  const directory = path.dirname(file);
  const mode = lookAt(trueDirectory(directory))?.mode ?? 0;
  if ((mode & 0o002) !== 0 && (mode & 0o1000) === 0) {
    const trouble = `stands in ${directory}, where any user can put a socket of their own in its place`;
    sheet.warn(`${property}.endpoint`, trouble, `chmod o-w ${directory}`);
  }
  if (listener.allow_unprotected === true) {
    sheet.warn(`${property}.allow_unprotected`, 'has no effect on a socket with a path', 'remove it');
  }
}

function checkAbstract(property: string, name: string, listener: ListenerDraft, sheet: Sheet): void {
  const bytes = Buffer.byteLength(name);
  if (bytes > SUN_PATH_BYTES) {
    const trouble = `has an abstract name of ${bytes} bytes`;
    sheet.problem(`${property}.endpoint`, trouble, `choose a name of at most ${SUN_PATH_BYTES} bytes`);
  }
  if (listener.allow_unprotected === true) {
    const trouble =
      'is an abstract socket: every process in the network namespace can decrypt through it, containers on the host network too';
    sheet.warn(`${property}.endpoint`, trouble, 'use a path wherever kube-apiserver can reach one');
  }
  if (listener.allow_unprotected === false) {
    sheet.problem(
      `${property}.endpoint`,
      'is an abstract socket, which has no access control, neither owner nor mode: every process in the network namespace can decrypt through it, with TLS too',
      'use a path, or accept this with allow_unprotected: true',
    );
  }
  if (typeof listener.mode === 'number') {
    sheet.warn(`${property}.mode`, 'has no effect: an abstract socket has no mode', 'remove it');
  }
}

function checkMode(property: string, mode: number, sheet: Sheet): void {
  if ((mode & 0o222) === 0) {
    sheet.problem(property, 'lets nobody connect, which needs the right to write', 'use "0600" or "0660"');
  } else if ((mode & 0o002) !== 0) {
    sheet.warn(property, 'lets every user of the host connect and so decrypt', 'use "0600", or "0660" and a group');
  }
}

function checkApis(property: string, { apis, tls }: ListenerDraft, sheet: Sheet): void {
  if (apis === undefined) return;
  apis.forEach(({ property: at, value }, index) => {
    const first = apis.findIndex((other) => other.value === value);
    if (first !== index) sheet.problem(at, `repeats ${value}`, 'list each API once');
  });
  if (apis.some(({ value }) => value === 'v2') && tls !== null) {
    const trouble = 'is set on a listener that serves v2, but kube-apiserver speaks no TLS to a KMS plugin';
    sheet.warn(`${property}.tls`, trouble, 'give kube-apiserver a listener of its own without tls');
  }
}

function checkRepeats(listeners: readonly ListItem<ListenerDraft>[], sheet: Sheet): void {
  const names = new Map<string, string>();
  const places = new Map<string, string>();
  for (const { property, value } of listeners) {
    const sameName = value.name === undefined ? undefined : firstOf(names, value.name, property);
    if (sameName !== undefined) {
      sheet.problem(`${property}.name`, `repeats the name of ${sameName}`, 'give each listener a name of its own');
    }
    const samePlace = value.endpoint === undefined ? undefined : firstOf(places, placeOf(value.endpoint), property);
    if (samePlace !== undefined) {
      const mend = 'give each listener a socket of its own; one listener can serve both APIs';
      sheet.problem(`${property}.endpoint`, `repeats the endpoint of ${samePlace}`, mend);
    }
  }
}

function placeOf(endpoint: NonNullable<ListenerDraft['endpoint']>): string {
  if (endpoint.kind === 'abstract') return `@${endpoint.name}`;
  return path.join(trueDirectory(path.dirname(endpoint.path)), path.basename(endpoint.path));
}
