/** The state directory and the control socket: the plugin's own, out of reach of those who use a listener. */
import path from 'node:path';
import { lookAt, trueDirectory, workingDirectoryTrouble } from '../files.ts';
import type { Sheet } from '../problems.ts';
import type { FileDraft } from '../schema.ts';
import { checkLength, checkNoOther, checkSocketPath } from './socket-path.ts';

export function checkState(draft: FileDraft, sheet: Sheet): void {
  const { state_dir: stateDirectory, control_socket: controlSocket } = draft;
  if (stateDirectory !== undefined) {
    checkStateDirectory(stateDirectory, sheet);
    checkNotShared('state_dir', stateDirectory, draft, sheet);
  }
  if (typeof controlSocket === 'string') checkControlSocket(controlSocket, draft, sheet);
  if (controlSocket === null && stateDirectory !== undefined) {
    const file = controlSocketIn(stateDirectory);
    checkLength('control_socket', file, sheet);
    checkNoOther('control_socket', file, sheet);
  }
}

/** Where the control socket is unless the file says otherwise. */
export function controlSocketIn(stateDirectory: string): string {
  return path.join(stateDirectory, 'control.sock');
}

/** It is made at the start if it is not there; its parent is not. */
function checkStateDirectory(directory: string, sheet: Sheet): void {
  if (lookAt(directory) !== undefined) {
    const trouble = workingDirectoryTrouble(directory);
    if (trouble === undefined) return;
    sheet.problem(
      'state_dir',
      `names ${directory}, which ${trouble}`,
      "name a directory of the plugin's user for it alone",
    );
    return;
  }
  const parent = path.dirname(directory);
  const trouble = workingDirectoryTrouble(parent);
  if (trouble === undefined) return;
  const mend = "make that directory, with the plugin's user as its owner";
  sheet.problem('state_dir', `cannot be made at the start: ${parent} ${trouble}`, mend);
}

function checkControlSocket(file: string, draft: FileDraft, sheet: Sheet): void {
  const directory = path.dirname(file);
  checkNotShared('control_socket', directory, draft, sheet);
  if (draft.state_dir === undefined || directory === draft.state_dir) {
    checkLength('control_socket', file, sheet);
    checkNoOther('control_socket', file, sheet);
  } else {
    checkSocketPath('control_socket', file, sheet);
  }
}

function checkNotShared(property: string, directory: string, draft: FileDraft, sheet: Sheet): void {
  const place = trueDirectory(directory);
  const shared = (draft.listeners ?? []).find(
    ({ value: { endpoint } }) => endpoint?.kind === 'path' && trueDirectory(path.dirname(endpoint.path)) === place,
  );
  if (shared === undefined) return;
  const trouble = `is in ${directory}, the directory of ${shared.property}.endpoint, which that socket's clients share`;
  sheet.problem(property, trouble, 'use a directory that only the plugin has');
}
