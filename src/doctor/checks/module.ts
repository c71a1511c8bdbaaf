import { elfTrouble, missingLibraries } from '../look/shared-library.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';

const LINKER_MS = 1_500;

/** The vendor's library: a library for this machine, complete, and loaded by the token process. */
export const module: Check = {
  name: 'module',
  async run(facts) {
    const settings = facts.config?.token;
    const view = await facts.token();
    if (settings === undefined) {
      if (view.by === 'nobody') return [unseen('the configuration is at fault')];
      return [ok(`${view.report.module.path}, as the running service has it`)];
    }
    const file = settings.module;
    const wrong = onDisk(file);
    if (wrong !== undefined) return [wrong];
    const missing = await missingLibraries(file, settings.environment, facts.patient(LINKER_MS));
    if (missing !== undefined && missing.length > 0) {
      const mend =
        "install them with the HSM's client software, or name their directory in LD_LIBRARY_PATH under token.environment";
      return [failure(`${file} needs what this host lacks: ${missing.join(', ')}`, mend)];
    }
    const complete = missing === undefined ? '' : ', all libraries that it needs are there';
    const onlyOnDisk = (why: string): Finding[] => [
      ok(`${file} is a library${complete}`),
      unseen(`whether it loads: ${why}`),
    ];
    if (view.by === 'nobody') return onlyOnDisk(view.why);
    const { report } = view;
    if (report.stage === 'module') {
      const mend = report.reason.includes('dlopen')
        ? 'see that it is the PKCS#11 library of the HSM, and that the plugin may read it'
        : "look at the client software's own configuration and the variables under token.environment; the vendor's own tool shows whether it works";
      return [failure(report.reason, mend)];
    }
    const about = [report.module.description, report.module.version].filter((text) => text !== undefined).join(' ');
    if (about === '' && report.state !== 'ready') return onlyOnDisk(`it stops at the ${report.stage ?? 'token'}`);
    return [ok(`${file} is loaded${about === '' ? '' : ` (${about})`}${complete}`)];
  },
};

function onDisk(file: string): Finding | undefined {
  try {
    const wrong = elfTrouble(file);
    return wrong === undefined
      ? undefined
      : failure(`token.module ${file} ${wrong}`, "name the HSM client's PKCS#11 library (64-bit, .so)");
  } catch (error) {
    return failure(
      `token.module ${file} cannot be read: ${(error as Error).message}`,
      "install the HSM's client software, or give the right path",
    );
  }
}
