/** The table of codes, docs/errors.md, the log and what callers are told say the same. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';
import { FAILURES, FAULTS, KmsError, type FailureKind } from '../../src/errors/index.ts';
import { serve } from '../api/support/fixture.ts';
import { FakeKeyring } from '../api/support/keyring.ts';
import { statusOf } from '../api/support/clients.ts';

const root = path.resolve(import.meta.dirname, '../..');
const sources = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => path.join(root, 'src', name));
const page = readFileSync(path.join(root, 'docs/errors.md'), 'utf8');

/** Of all codes: failures of calls, and faults of the service. */
const codes = new Map(
  [...Object.entries(FAULTS), ...Object.entries(FAILURES)].map(([kind, { code }]) => [code as string, kind]),
);
const sections = new Map(
  page
    .split(/^### /m)
    .slice(1)
    .map((section) => {
      const [heading = '', ...lines] = section.split(/\n#/)[0]?.split('\n') ?? [];
      return [heading, lines.join('\n')] as const;
    }),
);

describe('the table of codes', () => {
  it('gives each kind a code of its own', () => {
    assert.equal(codes.size, Object.keys(FAULTS).length + Object.keys(FAILURES).length);
    for (const code of codes.keys()) assert.match(code, /^KMS-\d{4}$/);
  });

  it('has every code that the sources write out', () => {
    const written = sources.flatMap((file) => readFileSync(file, 'utf8').match(/KMS-\d{4}/g) ?? []);
    assert.ok(written.length > 0);
    assert.deepEqual(
      written.filter((code) => !codes.has(code)),
      [],
    );
  });
});

describe('docs/errors.md', () => {
  it('has a section for each code, in their order, and no other', () => {
    assert.deepEqual(
      [...sections.keys()],
      [...codes].map(([code, kind]) => `${code} ${kind}`),
    );
  });

  it('says of each what it means, how CredHub shows it, and what to do', () => {
    for (const [heading, text] of sections) {
      const points = [...text.matchAll(/^- \*\*(\w+)\*\*: (.{8,})$/gm)].map((point) => point[1]);
      assert.deepEqual(points, ['Means', 'CredHub', 'Do'], heading);
    }
  });

  it("quotes CredHub's line with the status and the code that the caller is told", () => {
    for (const [kind, { code, status }] of Object.entries(FAILURES)) {
      const credhub = /^- \*\*CredHub\*\*: (.*)$/m.exec(sections.get(`${code} ${kind}`) ?? '')?.[1] ?? '';
      if (!credhub.startsWith('Nothing of its own')) assert.ok(credhub.includes(`${status}: … [${code}]`), code);
    }
  });
});

describe('a failure of a call', () => {
  it('reaches the log and the caller with its code and status, whichever it is', async (t) => {
    const keyring = new FakeKeyring();
    const { client, log, finished } = await serve(t, { keyring });
    const kms = client();
    for (const kind of Object.keys(FAILURES) as FailureKind[]) {
      const { code, status } = FAILURES[kind];
      keyring.before = () => {
        throw new KmsError(kind, `trouble of kind ${kind}`);
      };
      log.lines.length = 0;
      finished.length = 0;
      const answer = await kms.encrypt(Buffer.from('value'));
      assert.equal(statusOf(answer), status);
      assert.ok(answer.error?.details.endsWith(`trouble of kind ${kind} [${code}]`), answer.error?.details);
      const line = log.lines.find(({ message }) => message.includes(`trouble of kind ${kind}`));
      assert.deepEqual([line?.fields['code'], line?.fields['kind'], line?.fields['status']], [code, kind, status]);
      assert.deepEqual([finished[0]?.code, finished[0]?.status], [code, status]);
    }
  });

  it('that nobody foresaw is KMS-9001, and its text stays in the log', async (t) => {
    const keyring = new FakeKeyring();
    keyring.before = () => {
      throw new TypeError('something private');
    };
    const { client, log } = await serve(t, { keyring });
    const { error } = await client().encrypt(Buffer.from('value'));
    assert.match(error?.details ?? '', /^internal error; .* \[KMS-9001\]$/);
    const line = log.lines.find(({ level }) => level === 'error');
    assert.equal(line?.fields['code'], 'KMS-9001');
    assert.match(String(line.fields['cause']), /something private/);
  });
});

describe('the log', () => {
  const program = ts.createProgram(sources, options());
  const checker = program.getTypeChecker();
  const calls = sources.flatMap((file) => {
    const source = program.getSourceFile(file);
    assert.ok(source);
    return logCalls(source, checker);
  });

  it('is looked at whole', () => {
    assert.ok(calls.filter(({ level }) => level === 'error').length > 20);
  });

  it('has a code for every error', () => {
    assert.deepEqual(
      calls.filter(({ level, hasCode }) => level === 'error' && !hasCode).map(({ where }) => where),
      [],
    );
  });

  it('has the code of every failure that it tells of, at any level', () => {
    assert.deepEqual(
      calls.filter(({ tellsFailure, hasCode }) => tellsFailure && !hasCode).map(({ where }) => where),
      [],
    );
  });
});

interface LogCall {
  readonly where: string;
  readonly level: string;
  /** Its fields have `code`, whatever else is spread into them. */
  readonly hasCode: boolean;
  /** A KmsError, or a part of one, is among what it prints. */
  readonly tellsFailure: boolean;
}

function options(): ts.CompilerOptions {
  const file = path.join(root, 'tsconfig.json');
  return ts.parseJsonConfigFileContent(ts.readConfigFile(file, (name) => ts.sys.readFile(name)).config, ts.sys, root)
    .options;
}

/** Calls of a Log's methods: of whatever has all four of them. */
function logCalls(source: ts.SourceFile, checker: ts.TypeChecker): LogCall[] {
  const found: LogCall[] = [];
  const isLog = (type: ts.Type): boolean =>
    ['error', 'warn', 'info', 'debug'].every((level) => type.getProperty(level) !== undefined) &&
    type.getProperty('log') === undefined;
  const isFailure = (node: ts.Node): boolean => {
    const type = checker.getTypeAtLocation(node);
    return type.getSymbol()?.getName() === 'KmsError';
  };
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node)) {
      const callee = node.expression;
      const isMember = ts.isPropertyAccessExpression(callee) || ts.isElementAccessExpression(callee);
      if (isMember && isLog(checker.getTypeAtLocation(callee.expression))) {
        const level = ts.isPropertyAccessExpression(callee) ? callee.name.text : 'chosen at run time';
        if (['error', 'warn', 'info', 'debug', 'chosen at run time'].includes(level)) {
          const { line } = source.getLineAndCharacterOfPosition(node.getStart());
          const fields = node.arguments[1];
          found.push({
            where: `${path.relative(root, source.fileName)}:${line + 1}`,
            level,
            hasCode: fields !== undefined && everyCaseHasCode(fields, checker),
            tellsFailure: node.arguments.some((argument) => contains(argument, isFailure)),
          });
        }
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function everyCaseHasCode(fields: ts.Expression, checker: ts.TypeChecker): boolean {
  const type = checker.getTypeAtLocation(fields);
  const cases = type.isUnion() ? type.types : [type];
  return cases.every((each) => each.getProperty('code') !== undefined);
}

function contains(node: ts.Node, wanted: (node: ts.Node) => boolean): boolean {
  return wanted(node) || (ts.forEachChild(node, (child) => contains(child, wanted) || undefined) ?? false);
}
