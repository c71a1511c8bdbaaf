/** What every process of this program does about itself before it touches a secret. */
export { preventCoreFiles, type CoreFilePrevention } from './core-files.ts';
export { refuseDebugger } from './debugger.ts';
