import { request } from 'node:http';
import { AGAIN, seconds } from '../words.ts';
import { after, ABOVE, failure, ok, unseen, warning, type Check } from '../types.ts';

const ASK_MS = 1_500;

/** What monit, kubelet and Prometheus hear. */
export const healthPort: Check = {
  name: 'health port',
  async run(facts) {
    const where = facts.config?.health;
    if (where === undefined) return [unseen('the configuration is at fault')];
    if (where.port === 0) return [unseen('health.port is 0, any free one', 'set a port')];
    const service = await facts.service();
    if (service.kind === 'down' || service.kind === 'stuck' || service.kind === 'slow')
      return [unseen(service.message)];
    const shown = `${where.address}:${where.port}`;
    const [live, ready] = await Promise.all(
      ['liveness', 'readiness'].map((what) => ask(where, what, facts.patient(ASK_MS))),
    );
    if (live?.status === undefined || ready?.status === undefined) {
      const seen = `${shown} does not answer: ${(live?.status === undefined ? live : ready)?.trouble ?? ''}`;
      if (facts.isSlow) return [warning(`${seen}; this host is slow`, AGAIN)];
      return [
        failure(
          seen,
          'another program may have had the port when the service started: free it (ss -ltnp), or set health.port',
        ),
      ];
    }
    if (![200, 503].includes(live.status) || live.answer === undefined) {
      return [
        failure(
          `${shown} is answered by another program (HTTP ${live.status})`,
          'stop that program, or set health.port; the plugin takes the port when it is free',
        ),
      ];
    }
    if (live.status === 503) return [failure(`liveness: ${live.answer}`, ABOVE)];
    if (ready.status === 503) return [failure(`readiness: ${ready.answer ?? ''}`, NOT_READY)];
    return [ok(`${shown}: live and ready`)];
  },
};

/** Calls fail though nothing else does: the HSM refuses some and does others. */
const NOT_READY = after(
  'mend what fails above; calls fail or wait meanwhile',
  "the plugin's log says which calls fail (failed calls has their codes); where the HSM refuses them, the vendor's log says why",
);

interface Answer {
  readonly status?: number;
  /** The reason, if it is an answer of this program's. */
  readonly answer?: string;
  readonly trouble?: string;
}

function ask(
  where: { readonly address: string; readonly port: number },
  what: string,
  withinMs: number,
): Promise<Answer> {
  return new Promise((resolve) => {
    const asked = request(
      { host: where.address, port: where.port, path: `/healthz/${what}`, agent: false },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (text = (text + part).slice(0, 10_000)));
        response.on('end', () => {
          clearTimeout(timer);
          const reason = reasonIn(text);
          resolve({ status: response.statusCode ?? 0, ...(reason === undefined ? {} : { answer: reason }) });
        });
      },
    );
    const timer = setTimeout(() => asked.destroy(new Error(`no answer within ${seconds(withinMs)}`)), withinMs);
    asked.on('error', (error) => {
      clearTimeout(timer);
      resolve({ trouble: error.message });
    });
    asked.end();
  });
}

function reasonIn(text: string): string | undefined {
  try {
    const { reason } = JSON.parse(text) as { reason?: unknown };
    return typeof reason === 'string' ? reason : undefined;
  } catch {
    return undefined;
  }
}
