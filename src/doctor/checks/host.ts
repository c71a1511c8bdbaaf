import { paceInWords } from '../look/pace.ts';
import { ok, warning, type Check } from '../types.ts';

/** How much of its processors this host has left for one more program. */
export const host: Check = {
  name: 'host',
  run(facts) {
    if (!facts.isSlow) return [ok('it is not short of processor time')];
    return [
      warning(
        `slow: ${paceInWords(facts.slowness)}; late answers prove nothing here`,
        'see what takes the processors (top); calls take longer meanwhile, and the plugin needs nothing for it',
      ),
    ];
  },
};
