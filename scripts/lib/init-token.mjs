// Makes a SoftHSM2 token: node init-token.mjs MODULE LABEL PIN-FILE, with SOFTHSM2_CONF in the environment.
// softhsm2-util would take the PINs from its arguments, which every user of the machine can read, or from a terminal.
// The security officer's PIN is random and forgotten: whoever wants another token removes this one.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pkcs11 from 'pkcs11js';

const [, , library, label, pinFile] = process.argv;
const officerPin = randomBytes(16).toString('hex');
const module = new pkcs11.PKCS11();
module.load(library);
module.C_Initialize();
try {
  // SoftHSM2 always offers one slot whose token is not initialized, and moves the new token to a slot of its own.
  const free = module
    .C_GetSlotList(true)
    .find((slot) => (module.C_GetTokenInfo(slot).flags & pkcs11.CKF_TOKEN_INITIALIZED) === 0);
  if (free === undefined) throw new Error('SoftHSM2 offers no free slot');
  module.C_InitToken(free, officerPin, label);
  const session = module.C_OpenSession(free, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
  module.C_Login(session, pkcs11.CKU_SO, officerPin);
  module.C_InitPIN(session, readFileSync(pinFile, 'utf8'));
  module.C_Logout(session);
} finally {
  module.C_Finalize();
}
