/** Mends that several checks give, in one wording. */

export const START =
  'start it (BOSH: monit start kms-plugin; else kms-plugin serve), and look at its log if it ends again';
export const RESTART = 'restart it (BOSH: monit restart kms-plugin)';
export const RELOAD = 'send SIGHUP to the plugin process (BOSH: deploy, or monit restart kms-plugin)';
export const AS_OWNER =
  'run doctor as the user that runs the service (BOSH: sudo /var/vcap/jobs/kms-plugin/bin/kms-plugin doctor)';

export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');

export const mebibytes = (bytes: number): string => `${Math.round(bytes / 104_857.6) / 10} MiB`;
