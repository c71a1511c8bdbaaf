import { createApiServer } from '../../api/index.ts';
import { createKeyring } from '../../keyring/index.ts';
import { serve } from '../../service/index.ts';
import { createToken } from '../../token/index.ts';
import type { Invocation } from '../command.ts';

export function run({ configFile }: Invocation): Promise<number> {
  return serve(configFile, { createToken, createKeyring, createApiServer });
}
