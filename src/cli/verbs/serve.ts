import { serve } from '../../service/index.ts';
import type { Invocation } from '../command.ts';

export function run({ configFile }: Invocation): Promise<number> {
  return serve(configFile);
}
