export type * from './types.ts';
export type * from './report.ts';
