import { versions } from '../../version/index.ts';
import { EXIT, type Invocation } from '../command.ts';

export function run({ json, print, printJson }: Invocation): Promise<number> {
  const { program, node, grpc } = versions();
  if (json) printJson({ program, node, grpc });
  else print(`kms-plugin ${program}\nNode.js ${node}\n@grpc/grpc-js ${grpc}`);
  return Promise.resolve(EXIT.ok);
}
