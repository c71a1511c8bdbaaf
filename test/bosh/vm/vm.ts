/**
 * A VM as BOSH makes it, in namespaces of this machine: /var/vcap with compiled packages and rendered jobs, a user vcap, no
 * network, and `bpm` where monit looks for it. Needs root, as the agent does.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  existsSync,
  readFileSync,
  rmSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { once } from 'node:events';

const VCAP = 1000;

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Vm {
  /** The directory that is / var/vcap inside. */
  readonly vcap: string;
  /** Where the kernel accounts the job's memory. */
  readonly cgroup: string;
  readonly #directory: string;
  readonly #bwrap: ChildProcess;
  readonly #pid: number;

  private constructor(directory: string, cgroup: string, bwrap: ChildProcess, pid: number) {
    this.#directory = directory;
    this.cgroup = cgroup;
    this.vcap = path.join(directory, 'vcap');
    this.#bwrap = bwrap;
    this.#pid = pid;
  }

  /** Starts one with these compiled packages; `disk` gives it a persistent disk. */
  static async start(packages: string, { disk = false } = {}): Promise<Vm> {
    assert.equal(process.getuid?.(), 0, 'a VM of namespaces needs root: run this test as root');
    const directory = mkdtempSync(path.join(tmpdir(), 'kms-vm-'));
    chmodSync(directory, 0o755);
    const vcap = path.join(directory, 'vcap');
    for (const part of ['jobs/bpm/bin', 'packages', 'data', 'sys/run', 'sys/log', ...(disk ? ['store'] : [])]) {
      mkdirSync(path.join(vcap, part), { recursive: true });
    }
    // As the agent leaves them: a file system in memory whose root everybody may write, and one directory for vcap to read.
    chmodSync(path.join(vcap, 'sys/run'), 0o1777);
    chownSync(path.join(vcap, 'sys/log'), 0, VCAP);
    chmodSync(path.join(vcap, 'sys/log'), 0o750);
    mkdirSync(path.join(directory, 'opt'));
    copyFileSync(path.join(import.meta.dirname, 'bpm'), path.join(vcap, 'jobs/bpm/bin/bpm'));
    writeFileSync(
      path.join(directory, 'passwd'),
      `root:x:0:0:root:/root:/bin/bash\nvcap:x:${VCAP}:${VCAP}:vcap:/home/vcap:/bin/bash\n`,
    );
    writeFileSync(path.join(directory, 'group'), `root:x:0:\nvcap:x:${VCAP}:\n`);
    const cgroup = makeCgroup(path.basename(directory));
    writeFileSync(path.join(vcap, 'cgroup'), cgroup);
    const bwrap = spawn(
      'bwrap',
      [
        ...[
          '--ro-bind',
          '/usr',
          '/usr',
          '--ro-bind',
          '/etc',
          '/etc',
          '--proc',
          '/proc',
          '--dev',
          '/dev',
          '--tmpfs',
          '/tmp',
        ],
        // Directories that bwrap makes on the way to a mount are root's alone.
        ...['/home', '/sys', '/sys/fs', '/var'].flatMap((made) => ['--dir', made]),
        ...[
          '--bind',
          '/sys/fs/cgroup',
          '/sys/fs/cgroup',
          '--dir',
          '/home/vcap',
          '--bind',
          path.join(directory, 'opt'),
          '/opt',
        ],
        ...['bin', 'lib', 'lib64', 'sbin'].flatMap((link) => ['--symlink', `usr/${link}`, `/${link}`]),
        ...['passwd', 'group'].flatMap((file) => ['--ro-bind', path.join(directory, file), `/etc/${file}`]),
        ...['--bind', vcap, '/var/vcap', '--ro-bind', packages, '/var/vcap/packages'],
        ...(disk ? ['--bind', path.join(vcap, 'store'), '/var/vcap/store'] : []),
        ...['--unshare-net', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--hostname', 'vm', '--cap-add', 'ALL'],
        ...['--die-with-parent', '--json-status-fd', '3', 'sleep', 'infinity'],
      ],
      { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] },
    );
    try {
      const vm = new Vm(directory, cgroup, bwrap, await childPid(bwrap));
      // The namespaces are entered only when the mounts stand.
      for (let tries = 0; vm.run(['test', '-d', '/var/vcap/packages/hsm-kms-plugin-nodejs']).status !== 0; tries += 1) {
        assert.ok(tries < 100, 'the VM did not come up');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return vm;
    } catch (error) {
      await end(bwrap, cgroup, directory);
      throw error;
    }
  }

  /** Runs a command as root with the bare environment that monit and the agent have. */
  run(command: readonly string[], { input = '', timeoutMs = 120_000 } = {}): Ran {
    const bare = ['env', '-i', 'PATH=/bin:/usr/bin:/sbin:/usr/sbin', ...command];
    const enter = ['--target', String(this.#pid), '--mount', '--pid', '--net', '--ipc', '--uts', '--', ...bare];
    const { status, stdout, stderr, error } = spawnSync('nsenter', enter, {
      encoding: 'utf8',
      input,
      timeout: timeoutMs,
    });
    if (error !== undefined) throw error;
    return { status, stdout, stderr };
  }

  /** The same without waiting for its end. */
  spawn(command: readonly string[]): ChildProcess {
    const bare = ['env', '-i', 'PATH=/bin:/usr/bin:/sbin:/usr/sbin', ...command];
    return spawn('nsenter', [
      '--target',
      String(this.#pid),
      '--mount',
      '--pid',
      '--net',
      '--ipc',
      '--uts',
      '--',
      ...bare,
    ]);
  }

  /** Puts a rendered job where the agent would, with its owner and modes. */
  install(job: string, rendered: Readonly<Record<string, string>>): void {
    const target = path.join(this.vcap, 'jobs', job);
    rmSync(target, { recursive: true, force: true });
    for (const [name, text] of Object.entries(rendered)) {
      const file = path.join(target, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text);
      chmodSync(file, name.startsWith('bin/') ? 0o750 : 0o640);
      for (let at = file; at !== path.dirname(target); at = path.dirname(at)) {
        chownSync(at, 0, VCAP);
        if (at !== file) chmodSync(at, 0o750);
      }
    }
    // The agent makes these for every job that has none yet.
    for (const at of ['sys/log', 'sys/run', 'data'].map((parent) => path.join(this.vcap, parent, job))) {
      if (existsSync(at)) continue;
      mkdirSync(at);
      chmodSync(at, 0o770);
      chownSync(at, 0, VCAP);
    }
  }

  read(file: string): string {
    return readFileSync(path.join(this.vcap, file), 'utf8');
  }

  /** The program of a line of the job's monit file: start program or stop program. */
  static monit(rendered: Readonly<Record<string, string>>, what: 'start' | 'stop'): string[] {
    const command = new RegExp(`${what} program "([^"]+)"`).exec(rendered['monit'] ?? '')?.[1];
    assert.ok(command !== undefined, `monit has no ${what} program`);
    return command.split(' ');
  }

  async stop(): Promise<void> {
    await end(this.#bwrap, this.cgroup, this.#directory);
  }
}

async function end(bwrap: ChildProcess, cgroup: string, directory: string): Promise<void> {
  const ended = bwrap.exitCode === null && bwrap.signalCode === null ? once(bwrap, 'exit') : undefined;
  bwrap.kill('SIGKILL');
  await ended;
  // The kernel takes a moment to let go of the dead.
  for (let tries = 0; existsSync(cgroup) && tries < 500; tries += 1) {
    try {
      rmdirSync(cgroup);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  rmSync(directory, { recursive: true, force: true });
}

/** A cgroup that can limit memory: version 1 where that controller is mounted so, else version 2. */
function makeCgroup(name: string): string {
  const old = '/sys/fs/cgroup/memory';
  if (!existsSync(old)) writeFileSync('/sys/fs/cgroup/cgroup.subtree_control', '+memory');
  const cgroup = path.join(existsSync(old) ? old : '/sys/fs/cgroup', name);
  mkdirSync(cgroup);
  return cgroup;
}

/** The first process of the VM, as seen from outside: bwrap writes it, perhaps in pieces. */
async function childPid(bwrap: ChildProcess): Promise<number> {
  const status = bwrap.stdio[3];
  assert.ok(status !== null && status !== undefined && 'read' in status);
  let text = '';
  for await (const chunk of status) {
    text += String(chunk);
    const pid = /"child-pid": *(\d+)[^]*\n/.exec(text)?.[1];
    if (pid !== undefined) return Number(pid);
  }
  return assert.fail(`bwrap ended: ${text}`);
}
