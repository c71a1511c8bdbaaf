/* AES-GCM as HSMs do it that make the IV themselves, on a real module that takes the caller's. */
#include "faulty.h"

#include <string.h>
#include <sys/random.h>

bool mechanism_hidden(const struct control *control, CK_MECHANISM_TYPE type) {
  for (size_t i = 0; i < control->hidden_count; i++) {
    if (control->hidden[i] == type) return true;
  }
  return false;
}

static void make_iv(const struct control *control, unsigned char *iv, size_t length) {
  static _Atomic uint32_t made;
  memset(iv, 0, length);
  if (control->iv_fault == IV_ZERO) return;
  if (control->iv_fault == IV_POOL) {
    const uint32_t index = atomic_fetch_add(&made, 1) % (control->iv_pool > 0 ? control->iv_pool : 1);
    memset(iv, 0xa5, length);
    memcpy(iv, &index, sizeof index);
    return;
  }
  size_t filled = 0;
  while (filled < length) {
    const ssize_t got = getrandom(iv + filled, length - filled, 0);
    if (got > 0) filled += (size_t)got;
  }
}

/* CK_GCM_PARAMS of PKCS#11 2.40, section 2.12.3: p11-kit's header names its fields otherwise from version to version. */
struct gcm_params {
  CK_BYTE *iv;
  CK_ULONG iv_length;
  CK_ULONG iv_length_in_bits;
  CK_BYTE *aad;
  CK_ULONG aad_length;
  CK_ULONG tag_length_in_bits;
};

static CK_RV caller_iv_problem(enum iv_mode mode, const struct gcm_params *params) {
  static const unsigned char zeros[12];
  if (mode == IV_LUNA_FIPS) {
    return params->iv_length == 0 && params->iv_length_in_bits % 128 == 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
  }
  if (params->iv == NULL || params->iv_length != 12) return CKR_MECHANISM_PARAM_INVALID;
  if (mode == IV_CLOUDHSM && memcmp(params->iv, zeros, 12) != 0) return CKR_MECHANISM_PARAM_INVALID;
  return CKR_OK;
}

static CK_ULONG limit_of(const struct control *control) {
  if (control->gcm_limit != 0) return control->gcm_limit;
  return control->iv_mode == IV_CLOUDHSM ? 16384 : 0;
}

CK_RV gcm_encrypt_init(struct gate *gate, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key) {
  const struct control *control = gate->control;
  struct operation *operation = &gate->record->encrypt;
  if (mechanism == NULL) return inner->C_EncryptInit(gate->session, mechanism, key);
  if (mechanism_hidden(control, mechanism->mechanism)) return CKR_MECHANISM_INVALID;
  const bool gcm = mechanism->mechanism == CKM_AES_GCM;
  if (!gcm || control->iv_mode == IV_CALLER) {
    const CK_RV answer = inner->C_EncryptInit(gate->session, mechanism, key);
    if (answer == CKR_OK) *operation = (struct operation){.gcm = gcm, .limit = gcm ? limit_of(control) : 0};
    return answer;
  }

  struct gcm_params params;
  if (mechanism->pParameter == NULL || mechanism->ulParameterLen != sizeof params) return CKR_MECHANISM_PARAM_INVALID;
  memcpy(&params, mechanism->pParameter, sizeof params);
  struct operation next = {.gcm = true, .mode = control->iv_mode, .limit = limit_of(control)};
  const CK_RV problem = caller_iv_problem(next.mode, &params);
  if (problem != CKR_OK) return problem;
  const CK_ULONG length = next.mode == IV_LUNA_FIPS ? 16 : 12;
  make_iv(control, next.iv, length);
  if (next.mode != IV_LUNA_FIPS) next.iv_out = params.iv;
  params.iv = next.iv;
  params.iv_length = length;
  params.iv_length_in_bits = length * 8;
  CK_MECHANISM real = {CKM_AES_GCM, &params, sizeof params};
  const CK_RV answer = inner->C_EncryptInit(gate->session, &real, key);
  if (answer != CKR_OK) return answer;
  if (next.iv_out != NULL && control->iv_at_init) {
    memcpy(next.iv_out, next.iv, 12);
    next.iv_out = NULL;
  }
  *operation = next;
  return CKR_OK;
}

/* The appended IV as it leaves the HSM: a bad one cuts it. */
static CK_ULONG appended(const struct control *control) { return control->iv_fault == IV_SHORT ? 12 : 16; }

CK_RV gcm_encrypt(struct gate *gate, unsigned char *data, CK_ULONG length, unsigned char *out, CK_ULONG *out_length) {
  struct operation *operation = &gate->record->encrypt;
  if (operation->gcm && operation->limit != 0 && length > operation->limit) {
    end_operation(gate);
    return CKR_DATA_LEN_RANGE;
  }
  if (!operation->gcm || operation->mode != IV_LUNA_FIPS || out_length == NULL) {
    const CK_RV answer = inner->C_Encrypt(gate->session, data, length, out, out_length);
    if (answer == CKR_OK && out != NULL && operation->iv_out != NULL) {
      memcpy(operation->iv_out, operation->iv, 12);
      operation->iv_out = NULL;
    }
    return answer;
  }
  const CK_ULONG extra = appended(gate->control);
  const bool query = out == NULL || *out_length < extra;
  CK_ULONG inner_length = query ? 0 : *out_length - extra;
  CK_RV answer = inner->C_Encrypt(gate->session, data, length, query ? NULL : out, &inner_length);
  if (answer == CKR_OK && !query) memcpy(out + inner_length, operation->iv, extra);
  if (answer == CKR_OK && query && out != NULL) answer = CKR_BUFFER_TOO_SMALL;
  if (answer == CKR_OK || answer == CKR_BUFFER_TOO_SMALL) *out_length = inner_length + extra;
  return answer;
}

CK_RV gcm_decrypt_init(struct gate *gate, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key) {
  const struct control *control = gate->control;
  if (mechanism == NULL) return inner->C_DecryptInit(gate->session, mechanism, key);
  if (mechanism_hidden(control, mechanism->mechanism)) return CKR_MECHANISM_INVALID;
  const bool gcm = mechanism->mechanism == CKM_AES_GCM;
  const CK_RV answer = inner->C_DecryptInit(gate->session, mechanism, key);
  if (answer == CKR_OK) gate->record->decrypt = (struct operation){.gcm = gcm, .limit = gcm ? limit_of(control) : 0};
  return answer;
}

CK_RV gcm_decrypt(struct gate *gate, unsigned char *data, CK_ULONG length, unsigned char *out, CK_ULONG *out_length) {
  const struct operation *operation = &gate->record->decrypt;
  if (operation->gcm && operation->limit != 0 && length > operation->limit + 16) {
    end_operation(gate);
    return CKR_ENCRYPTED_DATA_LEN_RANGE;
  }
  const CK_RV answer = inner->C_Decrypt(gate->session, data, length, out, out_length);
  const bool tag = answer == CKR_GENERAL_ERROR || answer == CKR_ENCRYPTED_DATA_INVALID || answer == 0x42; /* AEAD_DECRYPT_FAILED */
  return operation->gcm && tag && gate->control->wrong_tag != 0 ? gate->control->wrong_tag : answer;
}

void end_operation(struct gate *gate) {
  unsigned char data[64] = {0}, out[256];
  CK_ULONG length = sizeof out;
  const CK_SESSION_HANDLE session = gate->session;
  switch (gate->function) {
    case F_C_Encrypt:
    case F_C_EncryptUpdate:
    case F_C_EncryptFinal:
      inner->C_Encrypt(session, data, 16, out, &length);
      return;
    case F_C_Decrypt:
    case F_C_DecryptUpdate:
    case F_C_DecryptFinal:
      inner->C_Decrypt(session, data, 48, out, &length);
      return;
    case F_C_Sign:
    case F_C_SignUpdate:
    case F_C_SignFinal:
      inner->C_Sign(session, data, 16, out, &length);
      return;
    case F_C_Verify:
    case F_C_VerifyUpdate:
    case F_C_VerifyFinal:
      inner->C_Verify(session, data, 16, out, 32);
      return;
    case F_C_Digest:
    case F_C_DigestUpdate:
    case F_C_DigestFinal:
      inner->C_Digest(session, data, 16, out, &length);
      return;
    case F_C_FindObjects:
      inner->C_FindObjectsFinal(session);
      return;
    default:
      return;
  }
}
