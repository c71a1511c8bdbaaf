import path from 'node:path';
import { shown } from '../problems.ts';
import type { ListenerConfig } from '../types.ts';
import { Fault, textual } from './scalars.ts';
import { hasControls } from './units.ts';

type Endpoint = ListenerConfig['endpoint'];

const URL = 'unix:///';
const ABSTRACT = `${URL}@`;

/** A listener's endpoint in any form that CredHub's or kube-apiserver's own settings use. */
export const endpoint = textual<Endpoint>((written, directory) => {
  const wrong = wrongForm(written);
  if (wrong !== undefined) {
    const mend = 'write a path, unix:///path, or unix:///@name for an abstract socket';
    return new Fault(`is ${shown(written)}, ${wrong}`, mend);
  }
  if (written.startsWith(ABSTRACT)) return { kind: 'abstract', name: written.slice(ABSTRACT.length) };
  // The URL's path begins with its last slash.
  const file = written.startsWith(URL) ? written.slice(URL.length - 1) : written;
  return { kind: 'path', path: path.resolve(directory, file) };
});

function wrongForm(written: string): string | undefined {
  if (hasControls(written)) return 'with a control character';
  if (written.startsWith('@')) return 'which could be a path or an abstract name';
  if (written === ABSTRACT) return 'without a name';
  if (written.startsWith(ABSTRACT)) return undefined;
  if (/(^|\/)\.{0,2}$/.test(written)) return 'which is a directory';
  if (written.startsWith(URL)) return undefined;
  if (written.startsWith('unix:')) return 'which lacks the three slashes';
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(written) ? 'which is no Unix socket' : undefined;
}
