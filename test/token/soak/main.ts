import { parseArgs } from 'node:util';
import { checkSoak, Soak } from './soak.ts';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
const seconds = Number(values.seconds);
if (!Number.isFinite(seconds) || seconds < 10) throw new Error('--seconds takes a number from 10 on');

const soak = await Soak.start();
try {
  const report = await soak.run(seconds, (line) => console.log(`${new Date().toISOString()} ${line}`));
  console.log(JSON.stringify(report, undefined, 2));
  checkSoak(report);
  console.log('The soak is clean.');
} finally {
  await soak.stop();
}
