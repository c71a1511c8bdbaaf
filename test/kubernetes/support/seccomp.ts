/** The seccomp profile that container engines mean by RuntimeDefault, for a container without capabilities. */
import { readFileSync } from 'node:fs';

const PROFILE = '/usr/share/containers/seccomp.json';

interface Condition {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
}

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly unknown[];
  readonly errnoRet?: number;
  readonly includes?: Condition;
  readonly excludes?: Condition;
}

/** In the OCI runtime's own form, which has no conditions. */
export function defaultSeccomp(): unknown {
  const profile = JSON.parse(readFileSync(PROFILE, 'utf8')) as {
    readonly defaultAction: string;
    readonly defaultErrnoRet?: number;
    readonly syscalls: readonly Rule[];
  };
  const syscalls = profile.syscalls.filter(applies).map(({ names, action, args, errnoRet }) => ({
    names,
    action,
    ...(args === undefined || args.length === 0 ? {} : { args }),
    ...(errnoRet === undefined ? {} : { errnoRet }),
  }));
  const { defaultAction, defaultErrnoRet } = profile;
  return { defaultAction, defaultErrnoRet, architectures: ['SCMP_ARCH_X86_64'], syscalls };
}

function applies({ includes, excludes }: Rule): boolean {
  if ((includes?.caps ?? []).length > 0) return false;
  if (includes?.arches !== undefined && !includes.arches.includes('amd64')) return false;
  return !(excludes?.arches ?? []).includes('amd64');
}
