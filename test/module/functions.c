/* The function list: every function goes through the gate, then to the real module. */
#include "faulty.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CK_FUNCTION_LIST *inner;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load_inner(void) {
  const char *path = getenv("FAULTY_MODULE");
  void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "FAULTY_MODULE: %s\n", path == NULL ? "not set" : dlerror());
    return;
  }
  CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
  *(void **)&get = dlsym(library, "C_GetFunctionList");
  if (get == NULL || get(&inner) != CKR_OK) inner = NULL;
}

typedef CK_SESSION_HANDLE S;
typedef CK_OBJECT_HANDLE O;
typedef CK_MECHANISM M;
typedef CK_ATTRIBUTE A;
typedef CK_ULONG N;
typedef unsigned char B;

#define NO_LENGTH ((CK_ULONG) - 1)

/* Enters the gate with or without a session, does `call`, leaves. */
#define GATED(name, session, length, setup, call) \
  { \
    struct gate g; \
    const CK_RV entered = gate_enter(&g, F_##name, session, length); \
    if (entered != CKR_OK) return answered(entered); \
    CK_RV rv; \
    setup; \
    rv = call; \
    return gate_leave(&g, rv); \
  }
#define FREE(name, parameters, call) static CK_RV f_##name parameters GATED(name, NO_SESSION, NO_LENGTH, (void)0, call)
#define SESSION(name, parameters, call) static CK_RV f_##name parameters GATED(name, s, NO_LENGTH, (void)0, call)
#define DATA(name, parameters, length, call) static CK_RV f_##name parameters GATED(name, s, length, (void)0, call)
/* Marks what a garbage rule may spoil. */
#define OUTPUT(name, parameters, length, out, out_length, call) \
  static CK_RV f_##name parameters GATED(name, s, length, (g.output = out, g.output_length = out_length), call)

/* The real handle of an object in `handle`, or the answer of a call that was given a stale one. */
static CK_RV stale(const struct gate *g, O handle, O *real, CK_RV code) {
  if (object_inner(handle, real)) return CKR_OK;
  return g->control->objects_stale_code != 0 ? g->control->objects_stale_code : code;
}
#define OBJECT(name, parameters, handle, code, call) \
  static CK_RV f_##name parameters { \
    struct gate g; \
    const CK_RV entered = gate_enter(&g, F_##name, s, NO_LENGTH); \
    if (entered != CKR_OK) return answered(entered); \
    O real = 0; \
    CK_RV rv = stale(&g, handle, &real, code); \
    if (rv == CKR_OK) rv = call; \
    return gate_leave(&g, rv); \
  }
#define KEY_INIT(name, call) \
  OBJECT(name, (S s, M * m, O key), key, CKR_KEY_HANDLE_INVALID, \
         m != NULL && mechanism_hidden(g.control, m->mechanism) ? CKR_MECHANISM_INVALID : call)

static CK_RV outer_handle(CK_RV rv, O *handle) {
  if (rv == CKR_OK && handle != NULL) *handle = object_outer(*handle);
  return rv;
}

/* ---- general, slots and tokens ---- */

static CK_RV f_C_Initialize(void *args) {
  struct gate g;
  const CK_RV entered = gate_enter(&g, F_C_Initialize, NO_SESSION, NO_LENGTH);
  if (entered != CKR_OK) return answered(entered);
  const CK_RV rv = inner->C_Initialize(args);
  if (rv == CKR_OK) state_initialized();
  return gate_leave(&g, rv);
}

static CK_RV f_C_Finalize(void *reserved) {
  struct gate g;
  const CK_RV entered = gate_enter(&g, F_C_Finalize, NO_SESSION, NO_LENGTH);
  if (entered != CKR_OK) return answered(entered);
  const CK_RV rv = inner->C_Finalize(reserved);
  if (rv == CKR_OK) session_drop_all();
  return gate_leave(&g, rv);
}

static void padded(void *field, size_t size, const char *text) {
  if (text[0] == '\0') return;
  memset(field, ' ', size);
  memcpy(field, text, strlen(text) < size ? strlen(text) : size);
}

static CK_RV show_info(const struct gate *g, CK_RV rv, CK_INFO *info) {
  if (rv != CKR_OK) return rv;
  padded(info->manufacturerID, 32, g->control->library_manufacturer);
  padded(info->libraryDescription, 32, g->control->library_description);
  return rv;
}

static CK_RV show_token(const struct gate *g, CK_RV rv, CK_TOKEN_INFO *info) {
  const struct control *c = g->control;
  if (rv != CKR_OK) return rv;
  padded(info->manufacturerID, 32, c->manufacturer);
  padded(info->model, 16, c->model);
  padded(info->serialNumber, 16, c->serial);
  if (c->firmware_major >= 0) info->firmwareVersion.major = (B)c->firmware_major;
  if (c->firmware_minor >= 0) info->firmwareVersion.minor = (B)c->firmware_minor;
  info->flags = (info->flags | c->flags_set) & ~c->flags_clear;
  if (c->max_sessions > 0 && !c->hide_max_sessions) info->ulMaxSessionCount = info->ulMaxRwSessionCount = c->max_sessions;
  return rv;
}

/* Slot ids beyond what a double holds exactly: the real module's have 32 bits. */
#define LARGE_SLOTS 0xfedcba9800000000UL

static CK_SLOT_ID real_slot(const struct gate *g, CK_SLOT_ID slot) {
  if (!g->control->large_slots) return slot;
  return (slot & 0xffffffff00000000UL) == LARGE_SLOTS ? slot & 0xffffffffUL : CK_UNAVAILABLE_INFORMATION;
}

static CK_RV show_slots(const struct gate *g, B present, CK_SLOT_ID *slots, N *count) {
  if (!g->control->removed || !present || count == NULL) {
    const CK_RV rv = inner->C_GetSlotList(present, slots, count);
    for (N i = 0; rv == CKR_OK && slots != NULL && g->control->large_slots && i < *count; i++) slots[i] |= LARGE_SLOTS;
    return rv;
  }
  *count = 0;
  return CKR_OK;
}

static CK_RV show_slot(const struct gate *g, CK_RV rv, CK_SLOT_INFO *info) {
  if (rv == CKR_OK && g->control->removed) info->flags &= ~(CK_FLAGS)CKF_TOKEN_PRESENT;
  return rv;
}

static CK_RV show_mechanisms(const struct gate *g, CK_RV rv, CK_MECHANISM_TYPE *types, N *count) {
  if (rv != CKR_OK || types == NULL) return rv;
  N kept = 0;
  for (N i = 0; i < *count; i++) {
    if (!mechanism_hidden(g->control, types[i])) types[kept++] = types[i];
  }
  *count = kept;
  return rv;
}

FREE(C_GetInfo, (CK_INFO * i), show_info(&g, inner->C_GetInfo(i), i))
FREE(C_GetSlotList, (B present, CK_SLOT_ID *slots, N *count), show_slots(&g, present, slots, count))
FREE(C_GetSlotInfo, (CK_SLOT_ID slot, CK_SLOT_INFO *i), show_slot(&g, inner->C_GetSlotInfo(real_slot(&g, slot), i), i))
FREE(C_GetTokenInfo, (CK_SLOT_ID slot, CK_TOKEN_INFO *i), show_token(&g, inner->C_GetTokenInfo(real_slot(&g, slot), i), i))
FREE(C_WaitForSlotEvent, (CK_FLAGS flags, CK_SLOT_ID *slot, void *r), inner->C_WaitForSlotEvent(flags, slot, r))
FREE(C_GetMechanismList, (CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, N *count),
     show_mechanisms(&g, inner->C_GetMechanismList(real_slot(&g, slot), types, count), types, count))
FREE(C_GetMechanismInfo, (CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *i),
     mechanism_hidden(g.control, type) ? CKR_MECHANISM_INVALID : inner->C_GetMechanismInfo(real_slot(&g, slot), type, i))
FREE(C_InitToken, (CK_SLOT_ID slot, B *pin, N n, B *label), inner->C_InitToken(slot, pin, n, label))
SESSION(C_InitPIN, (S s, B *pin, N n), inner->C_InitPIN(g.session, pin, n))
SESSION(C_SetPIN, (S s, B *old, N old_n, B *pin, N n), inner->C_SetPIN(g.session, old, old_n, pin, n))

/* ---- sessions ---- */

static CK_RV open_session(const struct gate *g, CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify, S *s) {
  if (g->control->refuse_read_only != CKR_OK && (flags & CKF_RW_SESSION) == 0) return g->control->refuse_read_only;
  const CK_RV reserved = session_reserve(g->control);
  if (reserved != CKR_OK) return reserved;
  const CK_RV rv = inner->C_OpenSession(slot, flags, app, notify, s);
  if (rv == CKR_OK) *s = session_add(*s, slot);
  else session_release();
  return rv;
}

static CK_RV close_session(const struct gate *g) {
  const CK_RV rv = inner->C_CloseSession(g->session);
  session_drop(g->outer);
  return rv;
}

static CK_RV close_all(CK_SLOT_ID slot) {
  const CK_RV rv = inner->C_CloseAllSessions(slot);
  if (rv == CKR_OK) session_drop_slot(slot);
  return rv;
}

FREE(C_OpenSession, (CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify, S *s),
     open_session(&g, real_slot(&g, slot), flags, app, notify, s))
SESSION(C_CloseSession, (S s), close_session(&g))
FREE(C_CloseAllSessions, (CK_SLOT_ID slot), close_all(real_slot(&g, slot)))
SESSION(C_GetSessionInfo, (S s, CK_SESSION_INFO *i), inner->C_GetSessionInfo(g.session, i))
SESSION(C_GetOperationState, (S s, B *state, N *n), inner->C_GetOperationState(g.session, state, n))
SESSION(C_SetOperationState, (S s, B *state, N n, O encryption, O authentication),
        inner->C_SetOperationState(g.session, state, n, encryption, authentication))

static CK_RV f_C_Login(S s, CK_USER_TYPE user, B *pin, N n) {
  struct login_record *record = counts_login(pin, n);
  struct gate g;
  CK_RV rv = gate_enter(&g, F_C_Login, s, NO_LENGTH);
  if (rv == CKR_OK) {
    rv = inner->C_Login(g.session, user, pin, n);
    if (rv == CKR_OK) state_logged_in();
    rv = gate_leave(&g, rv);
  }
  record->answer = (uint32_t)rv;
  return rv;
}
SESSION(C_Logout, (S s), inner->C_Logout(g.session))

/* ---- objects ---- */

/* How many handles one C_FindObjects may give. */
static N at_most(const struct gate *g, N most) {
  const N limit = g->control->handles_at_once;
  return limit > 0 && limit < most ? limit : most;
}

static CK_RV found(const struct gate *g, CK_RV rv, O *objects, N *count) {
  if (rv == CKR_OK && g->control->hide_objects) *count = 0;
  for (N i = 0; rv == CKR_OK && i < *count; i++) objects[i] = object_outer(objects[i]);
  return rv;
}

SESSION(C_CreateObject, (S s, A *t, N n, O *o), outer_handle(inner->C_CreateObject(g.session, t, n, o), o))
OBJECT(C_CopyObject, (S s, O object, A *t, N n, O *o), object, CKR_OBJECT_HANDLE_INVALID,
       outer_handle(inner->C_CopyObject(g.session, real, t, n, o), o))
OBJECT(C_DestroyObject, (S s, O object), object, CKR_OBJECT_HANDLE_INVALID, inner->C_DestroyObject(g.session, real))
OBJECT(C_GetObjectSize, (S s, O object, N *size), object, CKR_OBJECT_HANDLE_INVALID,
       inner->C_GetObjectSize(g.session, real, size))
OBJECT(C_GetAttributeValue, (S s, O object, A *t, N n), object, CKR_OBJECT_HANDLE_INVALID,
       inner->C_GetAttributeValue(g.session, real, t, n))
OBJECT(C_SetAttributeValue, (S s, O object, A *t, N n), object, CKR_OBJECT_HANDLE_INVALID,
       inner->C_SetAttributeValue(g.session, real, t, n))
SESSION(C_FindObjectsInit, (S s, A *t, N n), inner->C_FindObjectsInit(g.session, t, n))
SESSION(C_FindObjects, (S s, O *o, N most, N *count), found(&g, inner->C_FindObjects(g.session, o, at_most(&g, most), count), o, count))
SESSION(C_FindObjectsFinal, (S s), inner->C_FindObjectsFinal(g.session))

/* ---- encryption ---- */

/* GCM in parts, on a module that takes it in one part only. */
static CK_RV one_part(struct gate *g, const struct operation *operation) {
  if (!operation->gcm || !g->control->gcm_single_part) return CKR_OK;
  end_operation(g);
  return CKR_FUNCTION_NOT_SUPPORTED;
}
#define PART(check, call) (rv = one_part(&g, &g.record->check)) == CKR_OK ? call : rv

OBJECT(C_EncryptInit, (S s, M *m, O key), key, CKR_KEY_HANDLE_INVALID, gcm_encrypt_init(&g, m, real))
OUTPUT(C_Encrypt, (S s, B *in, N n, B *out, N *on), n, out, on, gcm_encrypt(&g, in, n, out, on))
OUTPUT(C_EncryptUpdate, (S s, B *in, N n, B *out, N *on), n, out, on,
       PART(encrypt, inner->C_EncryptUpdate(g.session, in, n, out, on)))
OUTPUT(C_EncryptFinal, (S s, B *out, N *on), NO_LENGTH, out, on, inner->C_EncryptFinal(g.session, out, on))
OBJECT(C_DecryptInit, (S s, M *m, O key), key, CKR_KEY_HANDLE_INVALID, gcm_decrypt_init(&g, m, real))
OUTPUT(C_Decrypt, (S s, B *in, N n, B *out, N *on), n, out, on, gcm_decrypt(&g, in, n, out, on))
OUTPUT(C_DecryptUpdate, (S s, B *in, N n, B *out, N *on), n, out, on,
       PART(decrypt, inner->C_DecryptUpdate(g.session, in, n, out, on)))
OUTPUT(C_DecryptFinal, (S s, B *out, N *on), NO_LENGTH, out, on, inner->C_DecryptFinal(g.session, out, on))

/* ---- digests and signatures ---- */

SESSION(C_DigestInit, (S s, M *m),
        m != NULL && mechanism_hidden(g.control, m->mechanism) ? CKR_MECHANISM_INVALID : inner->C_DigestInit(g.session, m))
OUTPUT(C_Digest, (S s, B *in, N n, B *out, N *on), n, out, on, inner->C_Digest(g.session, in, n, out, on))
DATA(C_DigestUpdate, (S s, B *in, N n), n, inner->C_DigestUpdate(g.session, in, n))
OBJECT(C_DigestKey, (S s, O key), key, CKR_KEY_HANDLE_INVALID, inner->C_DigestKey(g.session, real))
OUTPUT(C_DigestFinal, (S s, B *out, N *on), NO_LENGTH, out, on, inner->C_DigestFinal(g.session, out, on))
KEY_INIT(C_SignInit, inner->C_SignInit(g.session, m, real))
OUTPUT(C_Sign, (S s, B *in, N n, B *out, N *on), n, out, on, inner->C_Sign(g.session, in, n, out, on))
DATA(C_SignUpdate, (S s, B *in, N n), n, inner->C_SignUpdate(g.session, in, n))
OUTPUT(C_SignFinal, (S s, B *out, N *on), NO_LENGTH, out, on, inner->C_SignFinal(g.session, out, on))
KEY_INIT(C_SignRecoverInit, inner->C_SignRecoverInit(g.session, m, real))
OUTPUT(C_SignRecover, (S s, B *in, N n, B *out, N *on), n, out, on, inner->C_SignRecover(g.session, in, n, out, on))
KEY_INIT(C_VerifyInit, inner->C_VerifyInit(g.session, m, real))
DATA(C_Verify, (S s, B *in, N n, B *signature, N sn), n, inner->C_Verify(g.session, in, n, signature, sn))
DATA(C_VerifyUpdate, (S s, B *in, N n), n, inner->C_VerifyUpdate(g.session, in, n))
SESSION(C_VerifyFinal, (S s, B *signature, N sn), inner->C_VerifyFinal(g.session, signature, sn))
KEY_INIT(C_VerifyRecoverInit, inner->C_VerifyRecoverInit(g.session, m, real))
OUTPUT(C_VerifyRecover, (S s, B *in, N n, B *out, N *on), n, out, on, inner->C_VerifyRecover(g.session, in, n, out, on))
DATA(C_DigestEncryptUpdate, (S s, B *in, N n, B *out, N *on), n, inner->C_DigestEncryptUpdate(g.session, in, n, out, on))
DATA(C_DecryptDigestUpdate, (S s, B *in, N n, B *out, N *on), n, inner->C_DecryptDigestUpdate(g.session, in, n, out, on))
DATA(C_SignEncryptUpdate, (S s, B *in, N n, B *out, N *on), n, inner->C_SignEncryptUpdate(g.session, in, n, out, on))
DATA(C_DecryptVerifyUpdate, (S s, B *in, N n, B *out, N *on), n, inner->C_DecryptVerifyUpdate(g.session, in, n, out, on))

/* ---- keys, random numbers ---- */

static CK_RV generate_pair(const struct gate *g, M *m, A *t1, N n1, A *t2, N n2, O *o1, O *o2) {
  const CK_RV rv = inner->C_GenerateKeyPair(g->session, m, t1, n1, t2, n2, o1, o2);
  return outer_handle(outer_handle(rv, o1), o2);
}

static CK_RV wrap(const struct gate *g, M *m, O wrapping, O key, B *out, N *on) {
  O real = 0;
  const CK_RV rv = stale(g, key, &real, CKR_KEY_HANDLE_INVALID);
  return rv != CKR_OK ? rv : inner->C_WrapKey(g->session, m, wrapping, real, out, on);
}

SESSION(C_GenerateKey, (S s, M *m, A *t, N n, O *o), outer_handle(inner->C_GenerateKey(g.session, m, t, n, o), o))
SESSION(C_GenerateKeyPair, (S s, M *m, A *t1, N n1, A *t2, N n2, O *o1, O *o2),
        generate_pair(&g, m, t1, n1, t2, n2, o1, o2))
OBJECT(C_WrapKey, (S s, M *m, O wrapping, O key, B *out, N *on), wrapping, CKR_WRAPPING_KEY_HANDLE_INVALID,
       wrap(&g, m, real, key, out, on))
OBJECT(C_UnwrapKey, (S s, M *m, O unwrapping, B *in, N n, A *t, N tn, O *o), unwrapping, CKR_UNWRAPPING_KEY_HANDLE_INVALID,
       outer_handle(inner->C_UnwrapKey(g.session, m, real, in, n, t, tn, o), o))
OBJECT(C_DeriveKey, (S s, M *m, O base, A *t, N n, O *o), base, CKR_KEY_HANDLE_INVALID,
       outer_handle(inner->C_DeriveKey(g.session, m, real, t, n, o), o))
DATA(C_SeedRandom, (S s, B *seed, N n), n, inner->C_SeedRandom(g.session, seed, n))
DATA(C_GenerateRandom, (S s, B *out, N n), n, inner->C_GenerateRandom(g.session, out, n))
SESSION(C_GetFunctionStatus, (S s), inner->C_GetFunctionStatus(g.session))
SESSION(C_CancelFunction, (S s), inner->C_CancelFunction(g.session))

static CK_RV f_C_GetFunctionList(CK_FUNCTION_LIST **list);

#define FAULTY_MEMBER(name) .name = f_##name,
static CK_FUNCTION_LIST functions = {.version = {2, 40}, FAULTY_FUNCTIONS(FAULTY_MEMBER)};

static CK_RV f_C_GetFunctionList(CK_FUNCTION_LIST **list) {
  if (list == NULL) return CKR_ARGUMENTS_BAD;
  pthread_once(&once, load_inner);
  if (inner == NULL) return CKR_GENERAL_ERROR;
  *list = &functions;
  return CKR_OK;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list) {
  return f_C_GetFunctionList(list);
}
