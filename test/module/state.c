/* Sessions and object handles, and the events that make them invalid. */
#include "faulty.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

/*
 * Handles given to the caller carry the epoch in which they were made in their upper bits, so that a handle from before
 * an event is known as dead even where the real module would use its number again.
 */
#define EPOCH_SHIFT 40
#define INNER_MASK ((UINT64_C(1) << EPOCH_SHIFT) - 1)
static _Atomic uint64_t session_epoch, object_epoch;

#define MAX_SESSIONS 4096
static struct session sessions[MAX_SESSIONS];
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;
static CK_ULONG reserved;

static pthread_rwlock_t calls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* What this process, or this initialization, has seen of the events. */
static pthread_mutex_t events = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint32_t seen_sessions_lost, seen_login_lost, seen_objects_stale, seen_removals, seen_wedged;
static _Atomic bool logged_out, stays_removed, initialized_before;
static uint32_t ha_seen;
static int64_t ha_until;
static _Atomic CK_RV dead_answer; /* to a session from before the last loss; 0 is the usual one */

static void make_lock(void) {
  pthread_rwlockattr_t kind;
  pthread_rwlockattr_init(&kind);
  pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init(&calls, &kind);
}

void state_lock(void) {
  pthread_once(&once, make_lock);
  pthread_rwlock_rdlock(&calls);
}

void state_unlock(void) { pthread_rwlock_unlock(&calls); }

CK_RV session_reserve(const struct control *control) {
  pthread_mutex_lock(&table);
  const bool full = (control->max_sessions > 0 && reserved >= control->max_sessions) || reserved >= MAX_SESSIONS;
  if (!full) reserved++;
  pthread_mutex_unlock(&table);
  return full ? CKR_SESSION_COUNT : CKR_OK;
}

void session_release(void) {
  pthread_mutex_lock(&table);
  if (reserved > 0) reserved--;
  pthread_mutex_unlock(&table);
}

CK_SESSION_HANDLE session_add(CK_SESSION_HANDLE inner_handle, CK_SLOT_ID slot) {
  const CK_SESSION_HANDLE outer = inner_handle | (atomic_load(&session_epoch) << EPOCH_SHIFT);
  pthread_mutex_lock(&table);
  for (size_t i = 0; i < MAX_SESSIONS; i++) {
    if (sessions[i].used) continue;
    sessions[i] = (struct session){.outer = outer, .slot = slot, .used = true};
    break;
  }
  pthread_mutex_unlock(&table);
  counts_sessions(1);
  return outer;
}

static void drop_where(bool (*chosen)(const struct session *, CK_ULONG), CK_ULONG value) {
  int dropped = 0;
  pthread_mutex_lock(&table);
  for (size_t i = 0; i < MAX_SESSIONS; i++) {
    if (!sessions[i].used || !chosen(&sessions[i], value)) continue;
    sessions[i].used = false;
    dropped++;
  }
  reserved -= (CK_ULONG)dropped < reserved ? (CK_ULONG)dropped : reserved;
  pthread_mutex_unlock(&table);
  if (dropped > 0) counts_sessions(-dropped);
}

static bool by_handle(const struct session *session, CK_ULONG value) { return session->outer == value; }
static bool by_slot(const struct session *session, CK_ULONG value) { return session->slot == value; }
static bool any(const struct session *session, CK_ULONG value) { return session->used || value == 0; }

void session_drop(CK_SESSION_HANDLE outer) { drop_where(by_handle, outer); }
void session_drop_slot(CK_SLOT_ID slot) { drop_where(by_slot, slot); }
void session_drop_all(void) { drop_where(any, 0); }

struct session *session_find(CK_SESSION_HANDLE outer) {
  struct session *found = NULL;
  pthread_mutex_lock(&table);
  for (size_t i = 0; i < MAX_SESSIONS && found == NULL; i++) {
    if (sessions[i].used && sessions[i].outer == outer) found = &sessions[i];
  }
  pthread_mutex_unlock(&table);
  return found;
}

CK_OBJECT_HANDLE object_outer(CK_OBJECT_HANDLE inner_handle) {
  return inner_handle == 0 ? 0 : inner_handle | (atomic_load(&object_epoch) << EPOCH_SHIFT);
}

bool object_inner(CK_OBJECT_HANDLE outer, CK_OBJECT_HANDLE *inner_handle) {
  *inner_handle = outer & INNER_MASK;
  return outer == 0 || outer >> EPOCH_SHIFT == atomic_load(&object_epoch);
}

/* Closes the real sessions, so that login state and operations go with them. The calls lock is held alone. */
static void lose_sessions(CK_RV answer) {
  atomic_store(&dead_answer, answer);
  for (size_t i = 0; i < MAX_SESSIONS; i++) {
    if (sessions[i].used) inner->C_CloseAllSessions(sessions[i].slot);
  }
  session_drop_all();
  atomic_fetch_add(&session_epoch, 1);
  atomic_fetch_add(&object_epoch, 1);
  atomic_store(&logged_out, false);
}

static void lose_login(void) {
  for (size_t i = 0; i < MAX_SESSIONS; i++) {
    if (!sessions[i].used) continue;
    inner->C_Logout(sessions[i].outer & INNER_MASK);
    break;
  }
  atomic_fetch_add(&object_epoch, 1);
  atomic_store(&logged_out, true);
}

void state_initialized(void) {
  const struct control *control = control_now();
  pthread_once(&once, make_lock);
  pthread_mutex_lock(&events);
  atomic_store(&seen_sessions_lost, control->sessions_lost);
  atomic_store(&seen_login_lost, control->login_lost);
  atomic_store(&seen_objects_stale, control->objects_stale);
  atomic_store(&seen_removals, control->removals);
  const bool first = !atomic_exchange(&initialized_before, true);
  if (first || !control->wedged_until_new_process) atomic_store(&seen_wedged, control->wedged);
  atomic_store(&logged_out, false);
  atomic_store(&stays_removed, control->removed && control->removed_sticky);
  pthread_mutex_unlock(&events);
}

void state_logged_in(void) { atomic_store(&logged_out, false); }

static void apply_events(const struct control *control) {
  if (atomic_load(&seen_sessions_lost) == control->sessions_lost && atomic_load(&seen_login_lost) == control->login_lost &&
      atomic_load(&seen_objects_stale) == control->objects_stale && atomic_load(&seen_removals) == control->removals) {
    return;
  }
  pthread_once(&once, make_lock);
  pthread_rwlock_wrlock(&calls);
  if (atomic_exchange(&seen_objects_stale, control->objects_stale) != control->objects_stale) {
    atomic_fetch_add(&object_epoch, 1);
  }
  if (atomic_exchange(&seen_login_lost, control->login_lost) != control->login_lost) lose_login();
  if (atomic_exchange(&seen_sessions_lost, control->sessions_lost) != control->sessions_lost) {
    lose_sessions(control->sessions_lost_code);
  }
  if (atomic_exchange(&seen_removals, control->removals) != control->removals) {
    lose_sessions(0);
    if (control->removed_sticky) atomic_store(&stays_removed, true);
  }
  pthread_rwlock_unlock(&calls);
}

/* The first calls after a member's death wait until the vendor's timeout is over; then the other member serves. */
static void wait_for_other_member(const struct control *control) {
  if (control->ha_event == 0) return;
  pthread_mutex_lock(&events);
  if (ha_seen != control->ha_event) {
    ha_seen = control->ha_event;
    ha_until = now_ms() + (int64_t)control->ha_timeout_ms;
  }
  const int64_t until = ha_until;
  pthread_mutex_unlock(&events);
  const struct timespec moment = {until / 1000, until % 1000 * 1000000};
  while (now_ms() < until && clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &moment, NULL) == EINTR) {
  }
}

static bool reaches_hsm(enum function function) {
  return function >= F_C_GetTokenInfo && function != F_C_WaitForSlotEvent && function != F_C_GetFunctionStatus;
}

/*
 * Without a login, keys cannot be used. Searches work all the same, and find no private object: the real module, which
 * was logged out as well, answers those.
 */
static bool needs_login(enum function function) {
  return function >= F_C_EncryptInit && function < F_C_SeedRandom;
}

CK_RV state_check(enum function function, const struct control *control, CK_SESSION_HANDLE session) {
  if (function == F_C_Initialize || function == F_C_Finalize || function == F_C_GetFunctionList) return CKR_OK;
  if (control->wedged != atomic_load(&seen_wedged)) return CKR_DEVICE_ERROR;
  apply_events(control);
  if (reaches_hsm(function)) wait_for_other_member(control);
  const bool away = control->removed || atomic_load(&stays_removed);
  if (session == NO_SESSION) return away && reaches_hsm(function) ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
  if (away) return control->removed_code != 0 ? control->removed_code : CKR_DEVICE_REMOVED;
  if (session >> EPOCH_SHIFT != atomic_load(&session_epoch)) {
    const CK_RV dead = atomic_load(&dead_answer);
    return dead != 0 ? dead : CKR_SESSION_HANDLE_INVALID;
  }
  if (atomic_load(&logged_out) && needs_login(function)) {
    return control->login_lost_code != 0 ? control->login_lost_code : CKR_USER_NOT_LOGGED_IN;
  }
  return CKR_OK;
}
