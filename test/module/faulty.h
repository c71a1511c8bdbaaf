/*
 * A PKCS#11 module that stands in front of a real one and misbehaves on purpose.
 *
 * Environment: FAULTY_MODULE the real module, FAULTY_CONTROL what to do wrong (re-read whenever the file is replaced),
 * FAULTY_COUNTS a file, shared by all processes, of what was called. index.ts writes and reads these.
 *
 * A call's way: gate_enter() counts it, waits, fails or dies as told; then the real module's function runs under a lock
 * that is shared by all calls (it is held alone only while the real sessions are torn down); then gate_leave().
 */
#ifndef FAULTY_H
#define FAULTY_H

#include <p11-kit/pkcs11.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Every function of the 2.40 function list, in its order. index.ts has the same order. */
#define FAULTY_FUNCTIONS(X) \
  X(C_Initialize) X(C_Finalize) X(C_GetInfo) X(C_GetFunctionList) X(C_GetSlotList) X(C_GetSlotInfo) \
  X(C_GetTokenInfo) X(C_GetMechanismList) X(C_GetMechanismInfo) X(C_InitToken) X(C_InitPIN) X(C_SetPIN) \
  X(C_OpenSession) X(C_CloseSession) X(C_CloseAllSessions) X(C_GetSessionInfo) X(C_GetOperationState) \
  X(C_SetOperationState) X(C_Login) X(C_Logout) X(C_CreateObject) X(C_CopyObject) X(C_DestroyObject) \
  X(C_GetObjectSize) X(C_GetAttributeValue) X(C_SetAttributeValue) X(C_FindObjectsInit) X(C_FindObjects) \
  X(C_FindObjectsFinal) X(C_EncryptInit) X(C_Encrypt) X(C_EncryptUpdate) X(C_EncryptFinal) X(C_DecryptInit) \
  X(C_Decrypt) X(C_DecryptUpdate) X(C_DecryptFinal) X(C_DigestInit) X(C_Digest) X(C_DigestUpdate) X(C_DigestKey) \
  X(C_DigestFinal) X(C_SignInit) X(C_Sign) X(C_SignUpdate) X(C_SignFinal) X(C_SignRecoverInit) X(C_SignRecover) \
  X(C_VerifyInit) X(C_Verify) X(C_VerifyUpdate) X(C_VerifyFinal) X(C_VerifyRecoverInit) X(C_VerifyRecover) \
  X(C_DigestEncryptUpdate) X(C_DecryptDigestUpdate) X(C_SignEncryptUpdate) X(C_DecryptVerifyUpdate) \
  X(C_GenerateKey) X(C_GenerateKeyPair) X(C_WrapKey) X(C_UnwrapKey) X(C_DeriveKey) X(C_SeedRandom) \
  X(C_GenerateRandom) X(C_GetFunctionStatus) X(C_CancelFunction) X(C_WaitForSlotEvent)

#define FAULTY_ENUM(name) F_##name,
enum function { FAULTY_FUNCTIONS(FAULTY_ENUM) F_COUNT };
#define FAULTY_SET_WORDS ((F_COUNT + 63) / 64)

/* ---- control.c: what to do wrong ---- */

enum action { ACT_NONE, ACT_DELAY, ACT_ANSWER, ACT_HANG, ACT_STALL, ACT_SEGV, ACT_ABORT, ACT_EXIT, ACT_GARBAGE, ACT_CLAIM, ACT_PRINT };

struct rule {
  uint64_t functions[FAULTY_SET_WORDS];
  enum action action;
  CK_ULONG value; /* microseconds, CKR_, exit status or a length */
  uint64_t jitter_us;
  uint32_t id; /* cell of the shared counter that says how often the rule has matched */
  uint32_t skip, times, one_in;
  int64_t from_ms, until_ms; /* wall clock; 0 is unbounded */
  int64_t length, min_length; /* of the call's data in bytes; -1 is any */
  bool after; /* once the real module has answered */
  bool leave_open; /* the operation stays active on the session */
  char text[120];
};

enum iv_mode { IV_CALLER, IV_CLOUDHSM, IV_LUNA_FIPS, IV_NSHIELD };
enum iv_fault { IV_RANDOM, IV_ZERO, IV_POOL, IV_SHORT };

#define MAX_RULES 64
#define MAX_HIDDEN 32

struct control {
  struct rule rules[MAX_RULES];
  size_t rule_count;
  CK_MECHANISM_TYPE hidden[MAX_HIDDEN];
  size_t hidden_count;
  enum iv_mode iv_mode;
  enum iv_fault iv_fault;
  uint32_t iv_pool;
  bool iv_at_init; /* the HSM's IV is in the caller's buffer after ...Init, not only after C_Encrypt */
  CK_ULONG gcm_limit; /* bytes of one call; 0 is unlimited */
  bool gcm_single_part;
  CK_RV wrong_tag; /* in place of the real module's answer; 0 leaves that */
  CK_ULONG max_sessions; /* 0 is the real module's */
  CK_ULONG handles_at_once; /* of one C_FindObjects; 0 is unlimited */
  CK_ULONG hide_objects;
  bool large_slots;
  bool hide_max_sessions;
  CK_RV refuse_read_only; /* to C_OpenSession without CKF_RW_SESSION; 0 allows it */
  /* Events: a number that has grown since this process last looked means that it has happened. */
  uint32_t sessions_lost, login_lost, objects_stale, wedged, removals, ha_event;
  CK_RV sessions_lost_code, login_lost_code, objects_stale_code;
  bool wedged_until_new_process;
  bool removed;
  bool removed_sticky; /* the module notices the token's return only after C_Finalize and C_Initialize */
  CK_RV removed_code;
  uint64_t ha_timeout_ms;
  /* Overrides of C_GetTokenInfo and C_GetInfo; empty strings and -1 leave the real module's. */
  char manufacturer[33], model[17], serial[17], library_manufacturer[33], library_description[33];
  int firmware_major, firmware_minor;
  CK_FLAGS flags_set, flags_clear;
};

/* The present instructions: never NULL, valid for a long time after a newer one has come. */
const struct control *control_now(void);
/* Whether a rule of that id is still in the control file. */
bool control_has_rule(uint32_t id);
/* Wall clock in milliseconds. */
int64_t now_ms(void);

/* ---- counts.c: what happened, in a file that outlives the process ---- */

struct login_record {
  int64_t at_ms;
  uint64_t pin_hash; /* FNV-1a: tells PINs apart */
  uint32_t pid;
  uint32_t answer; /* CKR_, or 0xffffffff while the call has not come back */
};

struct process_record {
  _Atomic uint32_t pid;
  _Atomic int32_t open_sessions, most_sessions, running, most_running;
  uint32_t reserved;
};

#define LOGIN_RING 256
#define PROCESS_RING 256
#define RULE_CELLS 1024
#define COUNTS_MAGIC 0x31434646u

struct counts {
  uint32_t magic;
  uint32_t reserved;
  _Atomic uint64_t calls[80];
  _Atomic uint32_t rule_matches[RULE_CELLS];
  _Atomic uint32_t logins, processes;
  struct login_record login[LOGIN_RING];
  struct process_record process[PROCESS_RING];
};

/* index.ts reads the file by these offsets. */
_Static_assert(offsetof(struct counts, rule_matches) == 648, "rule_matches");
_Static_assert(offsetof(struct counts, login) == 4752, "login");
_Static_assert(offsetof(struct counts, process) == 10896, "process");
_Static_assert(sizeof(struct counts) == 17040, "counts");

struct counts *counts(void);
struct process_record *counts_process(void);
struct login_record *counts_login(const unsigned char *pin, CK_ULONG length);
void counts_sessions(int change);
void counts_running(int change);

/* ---- state.c: sessions, events ---- */

struct operation {
  bool gcm;
  enum iv_mode mode;
  CK_ULONG limit;
  unsigned char iv[16];
  unsigned char *iv_out; /* the caller's buffer, still to be written */
};

struct session {
  CK_SESSION_HANDLE outer;
  CK_SLOT_ID slot;
  bool used;
  struct operation encrypt, decrypt;
};

/* Reserves one of the allowed sessions; CKR_SESSION_COUNT if there is none. */
CK_RV session_reserve(const struct control *control);
void session_release(void);
CK_SESSION_HANDLE session_add(CK_SESSION_HANDLE inner, CK_SLOT_ID slot);
void session_drop(CK_SESSION_HANDLE outer);
void session_drop_slot(CK_SLOT_ID slot);
void session_drop_all(void);
/* NULL if the handle is not open. */
struct session *session_find(CK_SESSION_HANDLE outer);

CK_OBJECT_HANDLE object_outer(CK_OBJECT_HANDLE inner);
/* False if the handle is from before the objects went stale. */
bool object_inner(CK_OBJECT_HANDLE outer, CK_OBJECT_HANDLE *inner);

void state_initialized(void);
void state_logged_in(void);
/* Applies events that are new to this process, and answers what they make of this call. */
CK_RV state_check(enum function function, const struct control *control, CK_SESSION_HANDLE session);
void state_lock(void);
void state_unlock(void);

/* ---- gate.c: the way of every call ---- */

extern CK_FUNCTION_LIST *inner;
extern const CK_SESSION_HANDLE NO_SESSION;

struct gate {
  enum function function;
  const struct control *control;
  CK_SESSION_HANDLE outer, session; /* the caller's handle, the real module's */
  struct session *record;
  CK_ULONG length;
  unsigned char *output; /* what a garbage rule spoils */
  CK_ULONG *output_length;
  bool garbage;
};

/* CKR_OK: the real module may be called, with gate->session, and gate_leave must follow. Else the call's answer. */
#define ANSWERED_OK ((CK_RV)CKR_VENDOR_DEFINED | 0x10000) /* the call's answer is CKR_OK, with nothing done */
static inline CK_RV answered(CK_RV entered) { return entered == ANSWERED_OK ? CKR_OK : entered; }
CK_RV gate_enter(struct gate *gate, enum function function, CK_SESSION_HANDLE session, CK_ULONG length);
CK_RV gate_leave(struct gate *gate, CK_RV answer);

/* ---- gcm.c: who makes the IV ---- */

bool mechanism_hidden(const struct control *control, CK_MECHANISM_TYPE type);
CK_RV gcm_encrypt_init(struct gate *gate, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV gcm_encrypt(struct gate *gate, unsigned char *data, CK_ULONG length, unsigned char *out, CK_ULONG *out_length);
CK_RV gcm_decrypt_init(struct gate *gate, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV gcm_decrypt(struct gate *gate, unsigned char *data, CK_ULONG length, unsigned char *out, CK_ULONG *out_length);
/* Ends an operation that the real module still has open, by a call that cannot succeed or whose result is dropped. */
void end_operation(struct gate *gate);

#endif
