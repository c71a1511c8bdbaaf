/* What happens before and after the real module's function. */
#include "faulty.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

const CK_SESSION_HANDLE NO_SESSION = ~UINT64_C(0);

static void sleep_us(uint64_t microseconds) {
  struct timespec left = {(time_t)(microseconds / 1000000), (long)(microseconds % 1000000) * 1000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static uint32_t random_below(uint32_t bound) {
  uint32_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) return 0;
  return value % bound;
}

/* Whether the rule holds for this call; a call that matches but for skip and times counts all the same. */
static bool fires(const struct rule *rule, const struct gate *gate) {
  if ((rule->functions[gate->function / 64] >> (gate->function % 64) & 1) == 0) return false;
  if (rule->length >= 0 && (CK_ULONG)rule->length != gate->length) return false;
  if (rule->min_length >= 0 && (gate->length == (CK_ULONG)-1 || gate->length < (CK_ULONG)rule->min_length)) return false;
  const int64_t now = rule->from_ms != 0 || rule->until_ms != 0 ? now_ms() : 0;
  if (rule->from_ms != 0 && now < rule->from_ms) return false;
  if (rule->until_ms != 0 && now >= rule->until_ms) return false;
  if (rule->one_in > 1 && random_below(rule->one_in) != 0) return false;
  const uint32_t before = atomic_fetch_add(&counts()->rule_matches[rule->id % RULE_CELLS], 1);
  return before >= rule->skip && (rule->times == 0 || before - rule->skip < rule->times);
}

static void act(const struct rule *told) {
  const struct rule rule = *told; /* the instructions may be replaced while this call sleeps */
  switch (rule.action) {
    case ACT_DELAY:
      sleep_us(rule.value + (rule.jitter_us > 0 ? random_below((uint32_t)rule.jitter_us) : 0));
      return;
    case ACT_HANG:
      for (;;) pause();
    case ACT_STALL:
      while (control_has_rule(rule.id)) sleep_us(5000);
      return;
    case ACT_SEGV: {
      volatile int *volatile nowhere = NULL;
      *nowhere = 1;
      return;
    }
    case ACT_ABORT:
      abort();
    case ACT_EXIT:
      exit((int)rule.value);
    case ACT_PRINT:
      printf("%s\n", rule.text);
      fflush(stdout);
      fprintf(stderr, "%s\n", rule.text);
      return;
    default:
      return;
  }
}

/* Everything but answers: waits, noise, death. */
static void act_all(const struct gate *gate, bool after) {
  const struct control *control = gate->control;
  for (size_t i = 0; i < control->rule_count; i++) {
    const struct rule *rule = &control->rules[i];
    if (rule->action == ACT_ANSWER || rule->action == ACT_GARBAGE || rule->action == ACT_CLAIM || rule->after != after) continue;
    if (fires(rule, gate)) act(rule);
  }
}

static const struct rule *told_answer(const struct gate *gate, bool after) {
  const struct control *control = gate->control;
  for (size_t i = 0; i < control->rule_count; i++) {
    const struct rule *rule = &control->rules[i];
    if (rule->action == ACT_ANSWER && rule->after == after && fires(rule, gate)) return rule;
  }
  return NULL;
}

CK_RV gate_enter(struct gate *gate, enum function function, CK_SESSION_HANDLE session, CK_ULONG length) {
  *gate = (struct gate){.function = function, .outer = session, .length = length, .control = control_now()};
  atomic_fetch_add(&counts()->calls[function], 1);
  counts_running(1);
  act_all(gate, false);

  gate->control = control_now();
  CK_RV answer = state_check(function, gate->control, session);
  if (answer == CKR_OK && session != NO_SESSION) {
    gate->record = session_find(session);
    if (gate->record == NULL) answer = CKR_SESSION_HANDLE_INVALID;
    gate->session = session & ((UINT64_C(1) << 40) - 1);
  }
  if (answer == CKR_OK) {
    state_lock();
    const struct rule *rule = told_answer(gate, false);
    if (rule == NULL) return CKR_OK;
    if (gate->record != NULL && !rule->leave_open) end_operation(gate);
    answer = rule->value == CKR_OK ? ANSWERED_OK : rule->value;
    state_unlock();
  }
  counts_running(-1);
  return answer;
}

static void spoil(const struct gate *gate) {
  const struct control *control = gate->control;
  if (gate->output == NULL || gate->output_length == NULL) return;
  for (size_t i = 0; i < control->rule_count; i++) {
    const struct rule *rule = &control->rules[i];
    if ((rule->action != ACT_GARBAGE && rule->action != ACT_CLAIM) || !fires(rule, gate)) continue;
    if (rule->action == ACT_CLAIM) {
      *gate->output_length = rule->value;
      return;
    }
    for (CK_ULONG at = 0; at < *gate->output_length; at++) gate->output[at] ^= 0x5a;
  }
}

CK_RV gate_leave(struct gate *gate, CK_RV answer) {
  state_unlock();
  if (answer == CKR_OK) spoil(gate);
  act_all(gate, true);
  const struct rule *rule = told_answer(gate, true);
  counts_running(-1);
  return rule == NULL ? answer : rule->value;
}
