/**
 * Advice is followed literally at three in the morning: each piece that speaks of restarting, creating, deleting or giving to
 * another owner is listed here with the fault in which it is safe. A new one, or another wording, fails until somebody has
 * thought of that.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';
import { NO_ADVICE, PIECES, PROCEDURES } from './advice.ts';

const ROOT = path.resolve(import.meta.dirname, '../..');
const DANGEROUS = /\b(restart|restarted|keys create|create a key|make a(?: new)? key|delete|chown)\b/i;

/** Every text of the program's, whole: a template with what stands in it. */
function textsOf(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(path.join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest, true);
  const texts: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)) texts.push(node.getText(source));
    ts.forEachChild(node, visit);
  };
  visit(source);
  return texts.filter((text) => text.includes(' '));
}

function filesUnder(directory: string, ending: RegExp): string[] {
  return readdirSync(path.join(ROOT, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => ending.test(name))
    .map((name) => path.join(directory, name));
}

const inSource = filesUnder('src', /\.ts$/).flatMap((file) => textsOf(file).map((text) => ({ file, text })));
const inDocs = filesUnder('docs', /\.(md|yml)$/)
  // Written by the test that seeds these faults, from the program's own words.
  .filter((file) => file !== 'docs/doctor-faults.md' && !(file in PROCEDURES))
  .flatMap((file) =>
    readFileSync(path.join(ROOT, file), 'utf8')
      .split('\n')
      .map((text) => ({ file, text })),
  );
const dangerous = [...inSource, ...inDocs].filter(({ text }) => DANGEROUS.test(text));

const faults = readFileSync(path.join(ROOT, 'docs/doctor-faults.md'), 'utf8');
const codes = readFileSync(path.join(ROOT, 'docs/errors.md'), 'utf8');

describe('advice to restart, create, delete or give to another owner', () => {
  it('is found in the program and its documents', () => {
    assert.ok(dangerous.length > 40, String(dangerous.length));
  });

  it('is listed with the fault in which it is safe', () => {
    const known = [...Object.keys(PIECES), ...Object.keys(NO_ADVICE)];
    const unknown = dangerous.filter(({ text }) => !known.some((piece) => text.includes(piece)));
    assert.deepEqual(unknown, []);
  });

  it('names faults that are seeded, or codes that are documented', () => {
    for (const [piece, { fault, why }] of Object.entries(PIECES)) {
      const isKnown = fault.startsWith('KMS-') ? codes.includes(`### ${fault} `) : faults.includes(`| ${fault} |`);
      assert.ok(isKnown, `${piece}: ${fault}`);
      assert.ok(why.length >= 'as above'.length, piece);
    }
  });

  it('is carried out by tests, where a document is a procedure', () => {
    for (const [file, test] of Object.entries(PROCEDURES)) {
      assert.match(readFileSync(path.join(ROOT, file), 'utf8'), DANGEROUS, file);
      assert.ok(readdirSync(path.join(ROOT, test)).length > 0, test);
    }
  });
});
