export { preventCoreFiles, type CoreFilePrevention } from './core-files.ts';
