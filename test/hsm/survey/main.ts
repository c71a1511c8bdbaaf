/**
 * A program that finds out by experiment what a token does where PKCS#11 leaves it open, or where modules do as they
 * like. Reads a SurveyJob on stdin, prints the facts as JSON.
 */
import { readFileSync } from 'node:fs';
import { surveyCiphers } from './ciphers.ts';
import { Subject } from './subject.ts';
import type { Facts, SurveyJob } from './subject.ts';
import { surveyHandles, surveyInfo, surveyKeys, surveyPins, surveyThreads } from './tokens.ts';

async function main(): Promise<void> {
  const subject = new Subject(JSON.parse(readFileSync(0, 'utf8')) as SurveyJob);
  const facts: Facts = {};
  surveyInfo(subject, facts);
  surveyCiphers(subject, facts);
  await surveyThreads(subject, facts);
  surveyKeys(subject, facts);
  surveyHandles(subject, facts);
  surveyPins(subject, facts);
  subject.module.C_Finalize();
  process.stdout.write(JSON.stringify(facts, null, 1));
}

void main();
