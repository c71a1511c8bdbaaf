/** The context that renders templates here, and the spec files that it reads. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { HSM_NAMES, HSMS, tls } from './properties.ts';
import { files, render, root } from './render.ts';

describe('the context renders as the Director does', () => {
  // A job of the test's own, for what this release's jobs do not use.
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-job-'));
  test.after(() => rmSync(directory, { recursive: true }));
  const job = (template: string): string => {
    mkdirSync(path.join(directory, 'templates'), { recursive: true });
    writeFileSync(
      path.join(directory, 'spec'),
      'name: j\ntemplates: {a.erb: a}\nproperties: {j.a: {default: 1}, j.b: {}, j.c.d: {default: {x: 2}}}\n',
    );
    writeFileSync(path.join(directory, 'monit'), '');
    writeFileSync(path.join(directory, 'templates/a.erb'), template);
    return directory;
  };
  const output = (template: string, rest: object = {}): string => {
    const { files: rendered, errors } = render({ properties: {}, ...rest, directory: job(template) });
    return rendered['a'] ?? `! ${errors.map(({ message }) => message).join()}`;
  };
  const links = {
    db: {
      address: 'db.internal',
      properties: { port: 5 },
      instances: [{ name: 'db', index: 0, address: '10.0.0.9', properties: { port: 6 } }],
    },
  };

  test('defaults, and what is given', () => {
    assert.equal(output("<%= p('j.a') %> <%= p('j.c.d.x') %>"), '1 2');
    assert.equal(output("<%= p('j.a') %>", { properties: { j: { a: false } } }), 'false');
  });
  test('a missing mandatory property', () => assert.equal(output("<%= p('j.b') %>"), "! Can't find property 'j.b'"));
  test('the first of several names, or the default', () =>
    assert.equal(output("<%= p(['j.b', 'j.a']) %><%= p('j.b', 9) %>"), '19'));
  test('a property that the spec does not have', () =>
    assert.match(output("<%= p('j.z', 1) %>"), /j\.z is not a property/));
  test('if_p, else, else_if_p', () =>
    assert.equal(
      output(
        "<% if_p('j.a') { |a| %>A<%= a %><% }.else { %>-<% } %><% if_p('j.b') { %>B<% }.else_if_p('j.a') { %>E<% } %>",
      ),
      'A1E',
    ));
  test('links', () => {
    assert.equal(
      output(
        "<%= link('db').instances.first.address %> <%= link('db').p('port') %> <%= link('db').instances[0].p('port') %>",
        { links },
      ),
      '10.0.0.9 5 6',
    );
    assert.equal(output("<%= link('db').address %>"), "! Can't find link 'db'");
    assert.equal(output("<% if_link('db') { %>yes<% }.else { %>no<% } %>"), 'no');
  });
  test('create-env has no links', () => {
    assert.match(
      output("<%= link('db') %>", { mode: 'create-env', links }),
      /undefined method `link'|undefined method 'link'/,
    );
    assert.match(
      output("<% if_link('db') { %>x<% }.else { %>y<% } %>", { mode: 'create-env' }),
      /undefined method .else/,
    );
  });
  test('the instance', () => {
    assert.equal(
      output('<%= spec.bootstrap %> <%= spec.address.inspect %> <%= spec.az %>', { mode: 'create-env' }),
      'true nil unknown',
    );
    assert.equal(output('<%= spec.index %>', { spec: { index: 3 } }), '3');
  });
});

describe('the job\u2019s spec', () => {
  const spec = parse(readFileSync(path.join(root, 'jobs/kms-plugin/spec'), 'utf8')) as {
    templates: Record<string, string>;
    properties: Record<string, { description?: string; default?: unknown; example?: unknown }>;
  };
  test('every property has a description and an example', () => {
    for (const [name, { description, example }] of Object.entries(spec.properties)) {
      assert.ok((description ?? '').length > 15 && example !== undefined, name);
    }
  });
  test('one without a default says when it is mandatory, or leads to nothing when it is not given', () => {
    for (const [name, { description, ...rest }] of Object.entries(spec.properties)) {
      if (!('default' in rest) && name !== 'kms-plugin.module') assert.match(description ?? '', /Mandatory/, name);
    }
  });
  test('every property is used by a template', () => {
    const templates = Object.keys(spec.templates)
      .map((name) => readFileSync(path.join(root, 'jobs/kms-plugin/templates', name), 'utf8'))
      .join('\n');
    for (const name of Object.keys(spec.properties)) {
      const last = name.split('.').slice(2).join('.') || name;
      assert.ok(
        templates.includes(name) ||
          (name.startsWith('kms-plugin.limits.') && templates.includes(last.split('.').at(-1) ?? '')),
        name,
      );
    }
  });
  test('the examples work', () => {
    const examples: Record<string, unknown> = {};
    for (const [name, { example }] of Object.entries(spec.properties)) {
      const [, first = '', second] = name.split('.');
      if (second === undefined) examples[first] = example;
      else examples[first] = { ...(examples[first] as object | undefined), [second]: example };
    }
    const certificate = { ...tls };
    const luna = { ...(examples['luna'] as object), client_certificate: tls.certificate, client_key: tls.private_key };
    const servers = (examples['luna'] as { servers: object[] }).servers.map((server) => ({
      ...server,
      certificate: tls.ca,
    }));
    for (const hsm of HSM_NAMES) {
      const cloudhsm = { ...(examples['cloudhsm'] as object), hsm_ca_certificate: tls.ca };
      files({
        properties: { 'kms-plugin': { ...examples, hsm, tls: certificate, luna: { ...luna, servers }, cloudhsm } },
      });
    }
    assert.ok(HSMS.luna.hsm === examples['hsm']);
  });
});

test('docs/properties.md is what scripts/generate-properties-doc.mjs writes', () => {
  execFileSync(process.execPath, [path.join(root, 'scripts/generate-properties-doc.mjs'), '--check'], {
    stdio: 'pipe',
  });
});
