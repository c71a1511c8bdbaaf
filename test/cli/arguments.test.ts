import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DEFAULT_CONFIG, parseCommandLine } from '../../src/cli/arguments.ts';
import { UsageError } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { milliseconds, span, table } from '../../src/cli/format.ts';
import { overview, usageOf } from '../../src/cli/help.ts';
import { harmless } from '../../src/cli/terminal.ts';

const parse = (line: string, environment = {}) => parseCommandLine(line === '' ? [] : line.split(' '), environment);
const words = (line: string) => parse(line).command?.words.join(' ');

describe('the command line', () => {
  it('finds the verb wherever the options stand', () => {
    assert.equal(words('status'), 'status');
    assert.equal(words('--config f status'), 'status');
    assert.equal(words('status --config f --json'), 'status');
    assert.equal(words('keys list'), 'keys list');
    assert.equal(words('pin'), 'pin');
    assert.equal(words('pin clear --serial 17'), 'pin clear');
    assert.equal(words('--version'), 'version');
    assert.equal(words('-v'), 'version');
    const { operands, json, values, configFile } = parse('--json keys create a-label --config=/x/y.yml');
    assert.deepEqual([operands, json, configFile], [['a-label'], true, '/x/y.yml']);
    assert.deepEqual(
      { ...parse('roundtrip --listener a --size 7 --show').values },
      { listener: 'a', size: '7', show: true },
    );
    assert.equal(values['serial'], undefined);
  });

  it('takes the configuration from the option, the environment, or where BOSH has it, never the working directory', () => {
    assert.equal(parse('status').configFile, DEFAULT_CONFIG);
    assert.equal(parse('status', { KMS_PLUGIN_CONFIG: '/env.yml' }).configFile, '/env.yml');
    assert.equal(parse('status --config /o.yml', { KMS_PLUGIN_CONFIG: '/env.yml' }).configFile, '/o.yml');
  });

  it('names the verbs that are near to what was typed', () => {
    for (const [typed, verb] of [
      ['statsu', 'status'],
      ['stats', 'status'],
      ['docter', 'doctor'],
      ['key', 'keys'],
      ['rountrip', 'roundtrip'],
      ['check-confg', 'check-config'],
    ]) {
      assert.throws(() => parse(typed ?? ''), new RegExp(`no verb "${typed}"; did you mean ${verb}\\?`));
    }
    assert.throws(() => parse('encrypt'), /no verb "encrypt"$/);
  });

  it('gives help in every usual way', () => {
    for (const line of ['--help', '-h', 'help', 'help help']) {
      assert.deepEqual([parse(line).command, parse(line).wantsHelp], [undefined, true]);
    }
    for (const line of ['help keys list', 'keys list --help', '-h keys list', 'keys list -h extra']) {
      assert.deepEqual([words(line), parse(line).wantsHelp], ['keys list', true], line);
    }
  });

  it('refuses what it does not know', () => {
    const wrong = [
      '',
      'statsu',
      'keys',
      'keys frob',
      'keys create',
      'keys create a b',
      'status extra',
      'status --listener a',
      'status --nonsense',
      'pin clear --serial',
      'help frob',
    ];
    for (const line of wrong) assert.throws(() => parse(line), UsageError, line);
    assert.throws(() => parse('status --nonsense'), { message: 'there is no option --nonsense here' });
    for (const line of ['roundtrip --size', 'roundtrip --size -1']) {
      assert.throws(() => parse(line), { message: '--size wants a value after it' });
    }
  });
});

describe('the help', () => {
  it('fits a screen of 80 columns and 24 lines', () => {
    const screens = [overview(), ...COMMANDS.map(usageOf)];
    for (const screen of screens) {
      const lines = screen.split('\n');
      assert.ok(lines.length <= 23, `${lines.length} lines`);
      for (const line of lines) assert.ok(line.length <= 80, line);
    }
  });

  it('names every verb', () => {
    for (const { words, summary } of COMMANDS) {
      assert.match(overview(), new RegExp(`^  ${words.join(' ')}\\b.*${summary.slice(0, 20)}`, 'm'));
    }
  });
});

describe('text for people', () => {
  it('shows times by their two largest units', () => {
    assert.deepEqual([0, 59, 61, 3600, 90_061, 86_400 * 400].map(span), [
      '0 s',
      '59 s',
      '1 min 1 s',
      '1 h',
      '1 d 1 h',
      '400 d',
    ]);
  });

  it('reads times as the configuration writes them', () => {
    assert.deepEqual(['30s', '10m', '2h', '5', 'm', '1.5h', '-3s', '10 m'].map(milliseconds), [
      30_000,
      600_000,
      7_200_000,
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('aligns columns', () => {
    assert.equal(
      table([
        ['a', 'bb', 'c'],
        ['aaa', 'b', ''],
      ]),
      'a    bb  c\naaa  b',
    );
  });

  it('keeps control characters of tokens and files from the terminal, and lets colours pass', () => {
    assert.equal(
      harmless('a\u001b]0;title\u0007b\u009b31mc\r\u202ed\n'),
      'a\ufffd]0;title\ufffdb\ufffd31mc\ufffd\ufffdd\n',
    );
    assert.equal(harmless('\u001b[31mred\u001b[0m'), '\u001b[31mred\u001b[0m');
  });
});
